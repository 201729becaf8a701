"""The page: `python -m model_service page`. It holds the service's token, so who can open it can read the reports."""

import os

import streamlit as st

from model_service.client import Client, ServiceError
from model_service.settings import SettingsError

#: Button, heading and the route that makes the report.
KINDS = {"Model performance": "monitor-model", "Target drift": "monitor-target"}
REPORT_HEIGHT = 1100  # pixels; the report scrolls within


def service() -> Client:
    """Return the service that the environment names."""
    return Client.from_environment(os.environ, "API_TOKEN_FILE")


def model_names(client: Client) -> list[str]:
    """Return the models that can be chosen."""
    return [model["name"] for model in client.call("GET", "/models").json()]


def ask_for(client: Client, title: str, model: str, window: int) -> None:
    """Keep a report, so that it stays on the page when the other button is pressed."""
    with st.spinner(f"{title} of {model} …"):
        answer = client.call("GET", f"/{KINDS[title]}/{model}", window_size=window)
    rows, version = answer.headers["X-Rows"], answer.headers["X-Model-Version"]
    caption = f"{model}: the latest {rows} predictions beside the reference data of version {version}"
    st.session_state[title] = (caption, answer.text)


def show(title: str) -> None:
    """Show a report that was asked for."""
    if title not in st.session_state:
        return
    caption, html = st.session_state[title]
    st.header(title)
    st.caption(caption)
    st.iframe(html, height=REPORT_HEIGHT)


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="Model monitoring", layout="wide")
    st.title("Model monitoring")
    try:
        client = service()
        model_box, window_box, *button_boxes = st.columns([3, 2, 2, 2], vertical_alignment="bottom")
        model = model_box.selectbox("Model name", model_names(client))
        window = window_box.number_input(
            "Window size", 1, 50_000, 3000, step=500, help="How many of the latest predictions to look at"
        )
        for title, box in zip(KINDS, button_boxes, strict=True):
            if box.button(title, width="stretch"):
                ask_for(client, title, model, window)
    except (ServiceError, SettingsError) as error:
        st.error(str(error))
    for title in KINDS:
        show(title)


main()
