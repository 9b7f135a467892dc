"""The web demo: a picture in, and out its caption, the beam's others, and where each word looked.

Gradio draws the page from files of its own; nothing is loaded from another machine.
"""

from __future__ import annotations

import copy
import html
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from captioner.caption import Caption
from captioner.captioner import Captioner
from captioner.config import DemoOptions, SearchOptions
from captioner.data.images import MAX_PIXELS, open_image
from captioner.data.shapes import read_shapes
from captioner.pictures import VIEW, view
from captioner.visualize.page import save_page

if TYPE_CHECKING:
    import gradio

CSS = """
.attention iframe { width: 100%; height: max(34rem, 82vh); border: 0; border-radius: 12px; }
.attention { padding: 0; }
footer { display: none !important; }
"""
NOTHING_YET = "Upload a picture, paste one, take one with the camera, or choose a drawn scene."


UPLOADS = "GRADIO_TEMP_DIR"  # the variable that says where Gradio puts what is sent
SESSIONS = 200  # pages that are kept in memory, with what they show
CLEANING = (60, 600)  # how often, and from what age on uploads are removed; in seconds


class Demo:
    """What the page's buttons call. Gradio shows the text of a `gradio.Error`, and of no other.

    One thread does the work, whichever of Gradio's asks: glibc gives threads arenas of their own,
    and what many of them had kept for pages of text would add up.
    """

    def __init__(self, captioner: Captioner, max_pixels: int = MAX_PIXELS):
        self.captioner, self.max_pixels = captioner, max_pixels
        self.worker = ThreadPoolExecutor(1)

    def answer(self, path: str | None, *settings: Any) -> tuple[Any, ...]:
        """(choices of captions, page of the best, all pages) of the picture in a file, if any.

        `settings` are the values of `SearchOptions`, in its order.
        """
        import gradio as gr

        if path is None:
            return gr.Radio([], visible=False), NOTHING_YET, []
        try:
            work = self.worker.submit(self.explain, Path(path), search_options(settings))
            captions, pages = work.result()
        except ValueError as error:  # ImageError among them, which names the file
            said = str(error).replace(path, "this picture")
            raise gr.Error(said, print_exception=False) from error
        return gr.Radio(captions, value=0, visible=True), pages[0], pages

    def explain(
        self, path: Path, options: SearchOptions
    ) -> tuple[list[tuple[str, int]], list[str]]:
        """Captions, best first, each with its number, and the page of each as HTML."""
        writer = copy.copy(self.captioner)  # others may wait with settings of their own
        writer.options = options
        picture = open_image(path, self.max_pixels)
        best, shown = writer(picture), view(writer, picture)
        captions = [replace(each, image=path.name) for each in (best, *best.alternatives)]
        return (
            [(label(caption), number) for number, caption in enumerate(captions)],
            [frame(caption, shown) for caption in captions],
        )


class Rate:
    """So many calls a minute for each caller, by a clock in seconds."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic):
        self.most, self.clock = most, clock
        self.calls: dict[str, deque[float]] = {}  # of the last minute

    def allows(self, caller: str) -> bool:
        """Whether the caller may call once more; if so, it has."""
        now = self.clock()
        for name, times in list(self.calls.items()):
            while times and times[0] <= now - 60:
                times.popleft()
            if not times:
                del self.calls[name]
        times = self.calls.setdefault(caller, deque())
        if allowed := len(times) < self.most:
            times.append(now)
        return allowed


def label(caption: Caption) -> str:
    return f"{caption.text or '(no words)'} · log-probability {caption.log_prob:.2f}"


def frame(caption: Caption, shown: Any) -> str:
    """The page that visualize.py writes, in a frame."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        save_page(caption, shown, path)
        page = html.escape(path.read_text(encoding="utf-8"))
    return f'<iframe title="Where it looked, word by word" srcdoc="{page}"></iframe>'


def search_options(settings: tuple[Any, ...]) -> SearchOptions:
    """Raises ValueError for settings that do not go together."""
    names = SearchOptions.__dataclass_fields__
    kinds = {name: type(value) for name, value in vars(SearchOptions()).items()}
    return SearchOptions(
        **{name: kinds[name](value) for name, value in zip(names, settings, strict=True)}
    )


def build_demo(captioner: Captioner, options: DemoOptions, examples: Path) -> gradio.Blocks:
    """The page. Examples are drawn into the folder `examples`.

    Raises ValueError where Gradio is not installed.
    """
    gr = import_gradio()

    demo = Demo(captioner, options.megapixels * 1_000_000)
    rate = Rate(options.rate)

    def answer(request: Any, *given: Any) -> tuple[Any, ...]:
        if not rate.allows(request.client.host):
            raise gr.Error(f"busy: at most {options.rate} pictures a minute, please")
        return demo.answer(*given)

    answer.__annotations__["request"] = gr.Request  # by which Gradio knows what to give
    with gr.Blocks(title="captioner", analytics_enabled=False, delete_cache=CLEANING) as page:
        gr.Markdown("# A caption, and where each of its words looked")
        pages = gr.State([])
        with gr.Row():
            with gr.Column(min_width=300):
                sources = ["upload", "webcam", "clipboard"]
                picture = gr.Image(sources=sources, type="filepath", label="Picture", height=320)
                # Opening the file as it was sent, and saying what is wrong with it, is ours.
                picture.preprocess = lambda sent: sent and sent.path
                button = gr.Button("Caption it", variant="primary")
            with gr.Column(min_width=300):
                captions = gr.Radio([], label="Captions, best first", visible=False)
                if options.examples:
                    drawn = draw_examples(examples, options.examples)
                    gr.Examples(drawn, picture, label="Drawn scenes")
                with gr.Accordion("How words are chosen", open=False):
                    settings = _settings(gr, options.search)
        attention = gr.HTML(NOTHING_YET, elem_classes="attention")
        gr.on(
            [button.click, picture.change],
            answer,
            [picture, *settings],
            [captions, attention, pages],
            trigger_mode="always_last",  # a picture sent while another is captioned has its turn
            api_visibility="private",
        )
        captions.input(
            lambda number, pages: pages[number],
            [captions, pages],
            attention,
            api_visibility="private",
        )
    return page.queue(max_size=options.queue, default_concurrency_limit=1)


def _settings(gr: Any, now: SearchOptions) -> list[Any]:
    """An input for each of `SearchOptions`, in its order."""
    inputs = {
        "strategy": gr.Radio(["beam", "greedy", "sample"], label="Strategy"),
        "width": gr.Slider(1, 20, step=1, label="Width: captions kept, or drawn"),
        "max_length": gr.Slider(1, 50, step=1, label="At most so many words"),
        "min_length": gr.Slider(0, 20, step=1, label="At least so many words"),
        "length_penalty": gr.Slider(0, 2, label="Length penalty (beam)"),
        "consensus": gr.Slider(0, 5, label="Sharpness of the beams' consensus; 0: none"),
        "block_ngrams": gr.Slider(0, 5, step=1, label="No n-gram of this size twice; 0: no rule"),
        "temperature": gr.Slider(0.1, 2, label="Temperature (sample)"),
        "top_k": gr.Slider(0, 100, step=1, label="Among the k likeliest words (sample); 0: all"),
        "top_p": gr.Slider(0.05, 1, label="Among words of this probability (sample)"),
        "seed": gr.Number(precision=0, label="Seed (sample)"),
    }
    for name, each in inputs.items():
        each.value = getattr(now, name)
    return [inputs[name] for name in SearchOptions.__dataclass_fields__]


def draw_examples(folder: Path, count: int) -> list[str]:
    """Generated scenes as files: nobody's photographs, and free of licences."""
    scenes = read_shapes(train=1, val=count, test=1, novel=1).split("val")
    paths = [folder / f"scene-{number}.png" for number in range(1, count + 1)]
    for path, scene in zip(paths, scenes, strict=True):
        scene.image.draw(VIEW).save(path)
    return [str(path) for path in paths]


def serve(captioner: Captioner, options: DemoOptions) -> gradio.Blocks:
    """Shows the page on options.host and port, as long as this process goes on.

    Raises ValueError for a port that is taken.
    """
    gr = import_gradio()
    folder, before = TemporaryDirectory(prefix="captioner-"), os.environ.get(UPLOADS)
    os.environ[UPLOADS] = folder.name  # from here on
    page = build_demo(captioner, options, Path(folder.name))
    page.folder = folder  # is removed with the page, at the latest when the process ends
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # not Google's
    try:
        page.launch(
            server_name=options.host,
            server_port=options.port,
            max_file_size=f"{options.megabytes}mb",
            state_session_capacity=SESSIONS,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            share=False,
            theme=gr.themes.Default(**fonts),
            css=CSS,
            footer_links=[],
        )
    except OSError as error:
        if before is not None:  # a page of this process that goes on has its uploads there
            os.environ[UPLOADS] = before
        raise ValueError(f"port {options.port} is taken; choose another with port=") from error
    return page


def import_gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise ValueError("the demo needs Gradio: pip install 'captioner[demo]'") from error
    return gradio
