"""The model: what it is, and how to bring your own."""

import streamlit as st

import sample_models
from components.model_card import draw_model
from components.session import current_workspace, uploaded_models
from components.upload import draw_own_model, draw_upload

workspace = current_workspace()
left, right = st.columns(2, gap="large")
with left:
    draw_model(workspace.model.info, sample_models.models().get(workspace.model.info.name))
    if workspace.model in uploaded_models().values():
        draw_own_model(workspace.model)
with right:
    st.header("Bring your own")
    draw_upload(workspace.pictures)
