"""Whether a page could run anything that we did not write: read as a browser's parser would."""

from html.parser import HTMLParser

SCRIPTS = ("/static/htmx.min.js?v=", "/static/console.js?v=")
LINKS = frozenset({"href", "src", "action", "formaction", "xlink:href", "hx-get", "data-live"})
FORBIDDEN = frozenset(
    {"img", "iframe", "object", "embed", "style", "base", "audio", "video", "math", "template"}
)
OURS = frozenset({"hx-get", "hx-trigger", "hx-swap", "hx-swap-oob"})


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.faults = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in FORBIDDEN:
            self.faults.append(f"<{tag}>")
        if tag == "script" and not (values.get("src") or "").startswith(SCRIPTS):
            self.faults.append(f"<script {attrs}>")
        for name, value in attrs:
            if name.startswith("on") or name == "style" or (name[:3] == "hx-" and name not in OURS):
                self.faults.append(f"{tag} {name}={value}")
            if name in LINKS and not (value or "").startswith(("/", "?", "#")):
                self.faults.append(f"{tag} {name}={value}")
            if name in LINKS and (value or "").startswith("//"):
                self.faults.append(f"{tag} {name}={value}")


def faults_of(text):
    """What on this page is not ours."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.faults
