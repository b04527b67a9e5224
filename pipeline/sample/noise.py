"""Damage that the web does to captions: shop talk, markup, escapes, file names, shouting, emoji.

In: a clean English caption. Out: the caption as a crawler might find it; the words that name things stay in it.
"""

from __future__ import annotations

import html
from random import Random
from urllib.parse import quote

from pipeline.sample.chance import cumulative, pick, pick_weighted

CAMERA_NAMES = ("IMG_{:04d}.jpg", "DSC0{:04d}.JPG", "P102{:04d}", "image{}.png", "Screenshot {}", "untitled-{}", "{}")
EMPTY = ("", "", "", " ", "\n", " \t ")

# "Cat." of a catalogue and "Book" as a verb are there to catch a labeler that ignores their use.
PRODUCT = (
    "{} | Free Shipping | SKU {}-B | Best Price 2019",
    "{} - Buy Online at Low Prices, Item #{}",
    "{} (Pack of 2) Cat. No. {}",
    "{} | 30% OFF | {} reviews",
    "NEW! {} ref. {}",
    "{} for sale - only $19.99 [{}]",
    "{} - Book now from £{}",
    "{} XL 100% cotton print {} NWT",
)
EMOJI = ("😀", "❤️", "🔥🔥", "😍", "🌈", "👀", "✨")
SENTENCES = (
    "Have a great day!",
    "#nofilter",
    "Read more...",
    "Credit: Getty",
    "© 2018 All rights reserved.",
    "So cute!!!",
)


def fill_camera_name(chance: Random) -> str:
    """A name that a camera or a program gave: it says nothing of the image."""
    return pick(chance, CAMERA_NAMES).format(int(chance.random() * 10000))


def _as_is(text: str, chance: Random) -> str:
    return text


def _product(text: str, chance: Random) -> str:
    return pick(chance, PRODUCT).format(text, 1000 + int(chance.random() * 9000))


def _markup(text: str, chance: Random) -> str:
    style = chance.random()
    if style < 0.4:
        words = text.split(" ")
        bold = int(chance.random() * len(words))
        words[bold] = f"<b>{words[bold]}</b>"
        return " ".join(words)
    if style < 0.7:
        return html.escape(f"{text} & more")
    return f'<p class="alt">{text}</p><br/>' if style < 0.85 else f"{text}&nbsp;&#8211; &quot;HD&quot;"


def _url_escape(text: str, chance: Random) -> str:
    return quote(text) + pick(chance, ("", ".jpg", "%20%281%29.jpeg"))


def _file_name(text: str, chance: Random) -> str:
    return pick(chance, ("-", "_")).join(text.lower().replace(",", "").split()) + pick(
        chance, (".jpg", ".png", "_0342.jpg")
    )


def _emoji(text: str, chance: Random) -> str:
    return f"{text} {pick(chance, EMOJI)}" if chance.random() < 0.7 else f"{pick(chance, EMOJI)}{text}"


def _quotes(text: str, chance: Random) -> str:
    return f"“{text}”" if chance.random() < 0.6 else f"{text} – it’s today’s picture…"


def _sentence(text: str, chance: Random) -> str:
    return f"{text}. {pick(chance, SENTENCES)}"


DRESS = (
    (_as_is, _product, _markup, _url_escape, _file_name, _emoji, _quotes, _sentence),
    cumulative((0.62, 0.13, 0.05, 0.015, 0.03, 0.045, 0.04, 0.07)),
)


def roughen(text: str, chance: Random) -> str:
    """The caption in some letter case and in at most one piece of web dress."""
    case = chance.random()
    if case < 0.3:
        text = text[:1].upper() + text[1:]
    elif case < 0.45:
        # Not str.title, which writes "Chef'S".
        text = " ".join([word[:1].upper() + word[1:] for word in text.split(" ")])
    elif case < 0.5:
        text = text.upper()
    return pick_weighted(chance, *DRESS)(text, chance)
