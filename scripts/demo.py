"""Shows a page to caption pictures on; see --help."""

from captioner.cli import command
from captioner.config import DemoOptions


@command("demo", DemoOptions)
def main(options: DemoOptions) -> None:
    from captioner.captioner import Captioner
    from captioner.demo import serve

    page = serve(Captioner.load(options.checkpoint, options.device, options.search), options)
    print(f"http://{options.host}:{options.port}   (Ctrl+C ends it)", flush=True)
    page.block_thread()


if __name__ == "__main__":
    main()
