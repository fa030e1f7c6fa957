"""A Gradio app with named inputs that draws the prompt."""

import hashlib
import os

import gradio
from PIL import Image, ImageDraw


def draw(prompt, negative_prompt, width, height, steps, seed):
    if "unspeakable" in prompt:
        raise gradio.Error("the drawer refuses: out of paint")
    digest = hashlib.sha256(f"{prompt}/{seed}".encode()).digest()
    picture = Image.new("RGB", (int(width), int(height)), tuple(digest[:3]))
    pen = ImageDraw.Draw(picture)
    pen.text((8, 8), f"{prompt}\nwithout {negative_prompt}\n{int(steps)} steps, seed {int(seed)}", fill="white")
    return picture


app = gradio.Interface(
    draw,
    [
        gradio.Textbox(label="Prompt"),
        gradio.Textbox(label="Negative prompt", value=""),
        gradio.Number(label="Width", value=256),
        gradio.Number(label="Height", value=256),
        gradio.Number(label="Steps", value=4),
        gradio.Number(label="Seed", value=0),
    ],
    gradio.Image(type="pil"),
    api_name="draw",
)
app.launch(server_name="127.0.0.1", server_port=int(os.environ["PORT"]), quiet=True)
