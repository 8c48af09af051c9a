"""What a browser would make of a report: its tags, and the addresses that it would fetch."""

import base64
import re
from html.parser import HTMLParser
from urllib.parse import urlsplit
from xml.etree import ElementTree

_ADDRESSES = (
    *("src", "href", "srcset", "action", "formaction", "data", "poster", "background", "cite"),
    *("xlink:href", "ping", "manifest", "longdesc", "code", "codebase", "archive"),
)
_STYLED = re.compile(r"url\(\s*['\"]?([^)'\"]*)|@import\s+['\"]?([^'\";]*)")
_FIGURE = "data:image/svg+xml;base64,"
_ACTIVE = {"script", "iframe", "object", "embed", "base", "form", "link", "svg", "math", "template"}


class Page(HTMLParser):
    """A page as it is parsed: tags with their attributes' names, text, addresses, figures."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.outline: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str] = []
        self.figures: list[bytes] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outline.append((tag, tuple(name for name, _ in attrs)))
        self._open.append(tag)
        for name, value in attrs:
            found = [value or ""] if name in _ADDRESSES else []
            if name == "style":
                found = styled(value or "")
            for address in found:
                if address.startswith(_FIGURE):
                    self.figures.append(base64.b64decode(address.removeprefix(_FIGURE)))
                else:
                    self.addresses.append(address)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            del self._open[len(self._open) - 1 - self._open[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        self.text += data
        if "style" in self._open:
            self.addresses += styled(data)


def styled(style: str) -> list[str]:
    """What a style sheet or attribute would fetch."""
    return [one or other for one, other in _STYLED.findall(style)]


def check_page(html: str) -> Page:
    """Raise if a page runs anything, or fetches from anywhere but its own directory."""
    page = Page(html)
    for tag, names in page.outline:
        assert tag not in _ACTIVE, tag
        assert not [name for name in names if name.startswith("on")], (tag, names)
    for address in page.addresses:
        parts = urlsplit(address)
        assert not parts.scheme, address
        assert not parts.netloc, address
        assert not address.startswith("/"), address
    for figure in page.figures:
        check_figure(figure)
    return page


def check_figure(svg: bytes) -> None:
    """Raise if an SVG is malformed, runs anything, or fetches anything."""
    for element in ElementTree.fromstring(svg).iter():
        tag = element.tag.rpartition("}")[2]
        assert tag not in {"script", "foreignObject", "iframe", "a", "animate", "set"}, tag
        if tag == "style":
            assert not [one for one in styled(element.text or "") if not one.startswith("#")]
        for name, value in element.attrib.items():
            local = name.rpartition("}")[2]
            assert not local.startswith("on"), local
            if local in ("href", "src"):
                assert value.startswith(("#", "data:image/png;base64,")), value
            assert not [one for one in styled(value) if not one.startswith("#")], value


def check_markdown(text: str) -> Page:
    """The same of a README as a renderer shows it that lets raw HTML through."""
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    return check_page(html)
