# Lightbox in a container that runs without rights on a read-only disk:
#
#   docker build --tag lightbox .
#   docker run --read-only --tmpfs /tmp:size=1g --shm-size=12g --volume lightbox:/var/lib/lightbox --memory=24g \
#     --cap-drop=ALL --security-opt=no-new-privileges --publish 127.0.0.1:8501:8501 \
#     --env LIGHTBOX_HOSTS=lightbox.example.org --env LIGHTBOX_USER_HEADER=X-Remote-User lightbox
#
# What sessions upload lies in /dev/shm, which Docker makes 64 MB unless told; deploy/ has proxies to put before it.

FROM python:3.13-slim-bookworm AS build
WORKDIR /opt/lightbox
COPY requirements.lock ./
COPY supply ./supply
# An index of builds of torch for the processor alone saves 5 GB: --build-arg TORCH_INDEX=...; its files have no hashes here.
ARG TORCH_INDEX=""
RUN python -m venv .venv
RUN if [ -n "$TORCH_INDEX" ]; then \
      .venv/bin/python -m pip install --no-cache-dir --index-url "$TORCH_INDEX" \
        $(sed -n 's/^\(torch\(vision\)\{0,1\}==[^ ]*\).*/\1/p' requirements.lock); \
    fi
RUN PIP_NO_CACHE_DIR=1 .venv/bin/python -m supply.install requirements.lock

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/lightbox --shell /usr/sbin/nologin lightbox \
    && install --directory --owner=lightbox --group=lightbox --mode=0700 /var/lib/lightbox
WORKDIR /opt/lightbox
COPY --from=build /opt/lightbox/.venv ./.venv
COPY app.py ./
COPY .streamlit ./.streamlit
COPY components ./components
COPY explainers ./explainers
COPY pages ./pages
COPY sample_models ./sample_models
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/lightbox \
    LIGHTBOX_CACHE=/var/lib/lightbox/cache \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    STREAMLIT_SERVER_HEADLESS=true
USER lightbox
VOLUME /var/lib/lightbox
EXPOSE 8501
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD [".venv/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8501/healthz', timeout=5)"]
CMD [".venv/bin/streamlit", "run", "app.py", "--server.port=8501"]
