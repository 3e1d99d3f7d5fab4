"""The skeleton of the page: sections, figures, tiles, all in one file that needs no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from cardiac_vae.reports.style import as_data_uri


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        anchor: Its address within the page.
        title: Its heading and its line in the table of contents.
        parts: HTML, in order.
    """

    anchor: str
    title: str
    parts: Sequence[str]


def page(title: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """Return the whole page; ``facts`` (what -> text) stand in its header."""
    style = Path(__file__).with_name("style.css").read_text()
    contents = "".join(
        f"<li><a href='#{section.anchor}'>{escape(section.title)}</a></li>" for section in sections
    )
    body = "".join(
        f"<section id='{section.anchor}'><h2>{escape(section.title)}</h2>"
        f"{''.join(section.parts)}</section>"
        for section in sections
    )
    header = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in facts.items()
    )
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        f"<title>{escape(title)}</title><style>{style}</style></head><body><div class='layout'>"
        f"<header><p class='eyebrow'>cardiac-vae</p><h1>{escape(title)}</h1>"
        f"<dl class='facts'>{header}</dl></header>"
        f"<div class='columns'><nav><p>Contents</p><ol>{contents}</ol></nav>"
        f"<main>{body}</main></div></div></body></html>\n"
    )


def figure(png: bytes, title: str, caption: str) -> str:
    """Return a figure on a white card; ``title`` leads its caption and describes the image."""
    return (
        f"<figure><img src='{as_data_uri(png)}' alt='{escape(title, quote=True)}'>"
        f"<figcaption><b>{escape(title)}.</b> {escape(caption)}</figcaption></figure>"
    )


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text; ``kind`` is its style."""
    return f"<p class='{kind}'>{escape(text)}</p>" if kind else f"<p>{escape(text)}</p>"


def heading(text: str) -> str:
    """Return a heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def bullets(lines: Sequence[str]) -> str:
    """Return a list of findings."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul class='findings'>{items}</ul>"


def definitions(entries: Mapping[str, str]) -> str:
    """Return terms and what they mean."""
    items = "".join(
        f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in entries.items()
    )
    return f"<dl class='guide'>{items}</dl>"


def tiles(entries: Sequence[tuple[str, str, str, str]]) -> str:
    """Return boxes with a name, a value before, a value after and a note."""
    boxes = "".join(
        f"<div class='tile'><p class='name'>{escape(name)}</p>"
        f"<p class='value'>{escape(before)}<i>\N{RIGHTWARDS ARROW}</i>{escape(after)}</p>"
        f"<p class='note'>{escape(note)}</p></div>"
        for name, before, after, note in entries
    )
    return f"<div class='tiles'>{boxes}</div>"


def details(summary: str, parts: Sequence[str]) -> str:
    """Return HTML that is folded away until the reader opens it; a print shows its title only."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"
