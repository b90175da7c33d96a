"""Names that Markdown, Streamlit, Plotly or HTML would read as something else, and a page that shows all of them.

python -m streamlit run tests/hostile_names.py
"""

from __future__ import annotations

import os
from pathlib import Path

#: Who would be asked if a name were read as an address.
HOST = os.environ.get("HOSTILE_HOST", "foreign.invalid:80")

#: Those that people reported.
REPORTED = [
    line.replace("HOST", HOST)
    for line in (Path(__file__).parent / "cases" / "names_as_markdown.txt").read_text().splitlines()
]

#: What Plotly would put other values into.
TEMPLATE = "%{x} %{customdata[0]} <b>$x$</b>"

#: Further ones by kind: Markdown, GitHub's additions, Streamlit's, Plotly's, HTML's, white space, scripts, controls.
NAMES = [
    *REPORTED,
    *("# x", "1. x", "1) x", "- x", "+ x", "* x", "> x", "    x y", "x\n===", "a\n\nb", "a\tb", "a  b", " a ", "a\\"),
    *("__x__ ~~x~~ ==x== `x` ``x``", "[^1]", "[^1]: x", f"[x]: http://{HOST}/y", "[ ] x", "| a | b |", "---", "==="),
    *("|a|\n|-|\n|x|", "```mermaid\ngraph TD\n```", "\\(x\\) \\[y\\]", "C:\\dir\\a", "&copy; &amp; &#47;", "'a' \"b\""),
    *(
        "www.example.com",
        "see WWW.example.com/b_c.png",
        f"http://{HOST}/b_c.png",
        "HTTPS://A.EXAMPLE",
        "http://[::1]/x",
    ),
    *(
        "a.b@example.com",
        "mailto:a@example.com",
        "xmpp:a@example.com/x",
        "x@y.z",
        "_www.x.example_",
        "ftp://x.example/",
    ),
    *(":material/home:", ":material_home:", ":streamlit: x", ":smile: x :+1:", ":red[x] y", ":small[] :help[x]", "@x"),
    *("::x[y]", ":red-badge[x]", ":::note[x]\ny\n:::", "a -> b <- c <-> d -- e <= f >= g ~= h", "->", ":->", "--"),
    *("~~~", "$$x$$ $y$", TEMPLATE, "{{x}} ${x} {0}", f"<a href='http://{HOST}'>x</a>", "<b>x</b><br>y", "12:30:45"),
    *(f"<img src=//{HOST}/x>", f"<http://{HOST}>", "<!-- x -->", "javascript:alert(1)", "data:image/png;base64,AA"),
    *("é 猫 ‏עברית", "a\u200db", "\u202egnp.exe", "\x07bell", "\ud800half", "x" * 300),
]


def shown(name: str) -> str:
    """What a browser is to show: the name on one line, without signs that cannot be shown."""
    unfit = {ord("\u202e"): "\ufffd", ord("\x07"): "\ufffd", 0xD800: "\ufffd"}
    return " ".join(name.translate(unfit).split())


def draw() -> None:
    """Show every name in every way in which Streamlit reads Markdown, and in charts."""
    import plotly.graph_objects as go
    import streamlit as st

    from components.plain_text import plain, plain_in_chart

    for number, name in enumerate(NAMES):
        text = plain(name)
        with st.container(key=f"name-{number}"):
            st.markdown(f"It is **{text}** they say.")
            st.caption(text)
            st.button(text, key=f"button-{number}")
    worst = plain(" ".join(REPORTED))
    for kind, show in {
        "heading": lambda: st.title(worst),
        "error": lambda: st.error(worst),
        "toast": lambda: st.toast(worst, duration="infinite"),
        "expander": lambda: st.expander(worst).write(""),
        "tabs": lambda: st.tabs([worst]),
        "metric": lambda: st.metric("x", worst),
        "progress": lambda: st.progress(0.5, worst),
        "radio": lambda: st.radio("x", [worst]),
        "pills": lambda: st.pills("x", [worst]),
        "segments": lambda: st.segmented_control("x", [worst]),
        "image": lambda: st.image(Path(__file__).parent.parent / "screenshot.png", worst),
        "table": lambda: st.table({worst: [worst]}),
        "help": lambda: st.markdown("x", help=worst),
        "picker": lambda: st.selectbox("x", [" ".join(REPORTED)]),
    }.items():
        with st.container(key=f"kind-{kind}"):
            show()
    texts = [plain_in_chart(name) for name in NAMES]
    chart = go.Scatter(x=[0] * len(texts), y=list(range(len(texts))), text=texts, mode="text", name=texts[0])
    st.plotly_chart(go.Figure(chart, {"height": 30 * len(texts), "showlegend": True, "title": {"text": texts[1]}}))
    template = f"%{{customdata}} {plain_in_chart(TEMPLATE)}<extra></extra>"
    hovered = go.Bar(x=[1], y=[1], customdata=[texts[0]], hovertemplate=template)
    st.plotly_chart(go.Figure(hovered), key="hovered")


if __name__ == "__main__":
    draw()
