"""Hostile text: what comes back can do nothing, says everything and comes soon. Read by html.parser and by Chromium."""

import re
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from html import unescape
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baro.feedback import formulas, render
from baro.feedback.render import code_css, diff_html, plain, to_html
from baro.feedback.server.security import CONTENT_SECURITY_POLICY

STATIC = Path(render.__file__).parent / "static"
# written out again on purpose: what the page is prepared to show
HTML = {"a", "bdi", "blockquote", "br", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "ins",
        "li", "ol", "p", "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"}  # fmt: skip
CLASS = re.compile(
    r"(c-[a-z0-9]{1,3}|formula|display|refused|code|table|math|plain|diff|too-(long|deep|complex)|language|image|unseen"
    r"|align-(left|center|right))"
)

CLASSIC = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    '<img src="x" onerror="alert(1)" style="position:fixed">',
    "<svg onload=alert(1)>",
    "<svg/onload=alert`1`//",
    "<body onload=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    '<iframe srcdoc="<script>parent.alert(1)</script>">',
    "<object data=javascript:alert(1)>",
    "<embed src=//evil.example/x.swf>",
    "<video><source onerror=alert(1)></video>",
    "<details open ontoggle=alert(1)>x</details>",
    "<input autofocus onfocus=alert(1)>",
    '<form action="https://evil.example"><button>Log in again</button></form>',
    "<base href=https://evil.example/>",
    '<meta http-equiv=refresh content="0;url=https://evil.example">',
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<div style='position:fixed;inset:0'>over everything</div>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<a href=javascript:alert(1)>x</a>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<?xml-stylesheet href='javascript:alert(1)'?>",
    "<!DOCTYPE html [<!ENTITY x '<script>'>]>&x;",
    "</div></main></body><script>alert(1)</script>",
    "<plaintext><script>alert(1)",
    "<textarea></textarea><img src=x onerror=alert(1)>",
    "<title></title><img src=x onerror=alert(1)>",
    "<xmp><img src=x onerror=alert(1)></xmp>",
    "<template><img src=x onerror=alert(1)></template>",
    "<isindex action=javascript:alert(1) type=image>",
    "<p id=lease name=token class=button>x</p>",
]
NAMESPACES = [
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<math><mtext><table><mglyph><style><math><img src onerror=alert(1)>",
    "<math><annotation-xml encoding='text/html'><style><img src=x onerror=alert(1)></style></annotation-xml></math>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<svg><foreignObject><iframe onload=alert(1)></foreignObject></svg>",
    "<svg></p><style><a id='</style><img src=1 onerror=alert(1)>'>",
    "<math><mi//xlink:href='javascript:alert(1)'>x</mi></math>",
    "<math href=javascript:alert(1)>x</math>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<select><noembed></select><script x='a@b'>alert(1)</script>",
    "<svg><use href='data:image/svg+xml,<svg id=x xmlns=http://www.w3.org/2000/svg><script>alert(1)</script></svg>#x'/>",
]
LINKS = [
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](javascript&#58;alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A&#x61;vascript:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](java&Tab;script:alert(1))",
    "[x](java&NewLine;script:alert(1))",
    "[x](<java\\\nscript:alert(1)>)",
    "[x](\x01javascript:alert(1))",
    "[x]( javascript:alert(1))",
    "[x](\u00a0javascript:alert(1))",
    "[x](\u200bjavascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](blob:https://evil.example/1)",
    "[x](view-source:javascript:alert(1))",
    "[x](//evil.example/protocol-relative)",
    "[x](/api/session)",
    "[x](#lease)",
    '[x](http://a" onmouseover=alert(1) x=")',
    "[x](http://a 'b' onclick=alert(1))",
    '[x](http://a "\\" onclick=alert(1)")',
    "[x](https:\\\\evil.example)",
    "[x](http:javascript:alert(1))",
    "[x](mailto:a@b.example?body=<script>alert(1)</script>)",
    "<javascript:alert(1)>",
    "<JAVASCRIPT:alert(1)>",
    "<data:text/html,x>",
    "<http://a/'onclick='alert(1)>",
    "<a@b.example'onclick=alert(1)>",
    "[x]: javascript:alert(1)\n\n[x]",
    "[x]: http://a 'onclick=alert(1)'\n\n[x][x]",
    "![x](https://evil.example/pixel.png)",
    '![x](https://evil.example/pixel.png?"onload=alert(1))',
    '![x" onerror="alert(1)](https://evil.example/p.png)',
    "![x](data:image/svg+xml;base64,PHN2Zy8+)",
    "[![x](https://evil.example/p.png)](javascript:alert(1))",
    "![<img src=x onerror=alert(1)>](https://evil.example/p.png)",
    "[http://good.example](http://evil.example)",
    "[<http://a.example>](http://b.example)",
]
BLOCKS = [
    "```html\n<script>alert(1)</script>\n```",
    '```"><img src=x onerror=alert(1)>\nx\n```',
    '```html" onmouseover="alert(1)\nx\n```',
    "``` &lt;script&gt;alert(1)&lt;/script&gt;\nx\n```",
    "~~~~\n```\n</code></pre><script>alert(1)</script>\n```\n~~~~",
    "````md\n```js\n</pre><img src=x onerror=alert(1)>\n```\n````",
    "    </code></pre><svg onload=alert(1)>",
    "`</code><img src=x onerror=alert(1)>`",
    "``` \n\n\n<b>",
    "| <script> | b |\n|:-:|-:|\n| <img src=x onerror=alert(1)> | `|` |",
    '|a|\n|:-----" onclick="x|\n|b|',
    "1234567890. x\n\n999999999. y\n\n-1. z",
    "> </blockquote><script>alert(1)</script>\n> - <img src=x onerror=alert(1)>",
    "# <svg onload=alert(1)>\n\n<h1 onclick=alert(1)>\n===",
    "```xml\n<!--><img src=x onerror=alert(1)>--><![CDATA[</span></code>]]>\n```",
    "```js\n'</script><script>alert(1)</script>'\n```",
    "```css\nx{background:url(https://evil.example)}\n```",
]
UNICODE = [
    "\u202e<script>alert(1)</script>\u202c",
    "\u2066\u2067\u2068 not closed, [x](http://a.example/\u202egnp.exe)",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "<\u0131mg src=x onerror=alert(1)><\u017fcript>alert(1)</\u017fcript>",
    "<img\u2028src=x\u2029onerror=alert(1)>",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "\ud800<script>\udfff</script>",
    "<a\u00a0href=javascript:alert(1)>",
    "\ufeff<script>alert(1)</script>",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;img src=x onerror=alert(1)&#62; &amp;lt;script&amp;gt;",
    "\x1b]8;;javascript:alert(1)\x07x\x1b]8;;\x07",
]
MATHEMATICS = [
    r"$\text{<img src=x onerror=alert(1)>}$",
    r"$\text{</mtext></math><script>alert(1)</script>}$",
    r"$$\mbox{<svg onload=alert(1)>}$$",
    r"$\href{javascript:alert(1)}{x}$",
    r"$\url{javascript:alert(1)}$",
    r"$\style{position:fixed;inset:0}{x}$",
    r"$\class{button}{x}$",
    r"$\cssId{lease}{x}$",
    r"$\htmlData{x=1}{y}$",
    r"$\includegraphics{https://evil.example/p.png}$",
    r"$\color{red\" onclick=\"alert(1)}{x}$",
    r"$\textcolor{url(https://evil.example)}{x}$",
    r"$\colorbox{#fff\"}{<b>x</b>}$",
    r"$\unicode{x3c}script\unicode{x3e}$",
    r"$\unicode{<script>}$",
    r"$\unicode{x202e}$ $\unicode{xd800}$ $\unicode{x110000}$ $\unicode{x0}$",
    r"$\text{&#x3c;script&#x3e;alert(1)&#x3c;/script&#x3e;}$",
    r"$\text{&lt;img src=x onerror=alert(1)&gt;}$",
    r"$<annotation-xml encoding='text/html'><img src=x onerror=alert(1)></annotation-xml>$",
    r"\(\text{<mglyph><malignmark><style>}\)",
    r"\[\begin{matrix}<script>&alert(1)\\</script>\end{matrix}\]",
    "\\begin{align}\n<img src=x onerror=alert(1)>\n\\end{align}",
    r"$\rule{1000em}{1000em}$ $\hspace{-9999px}x$ $\raise{999em}{x}$ $\kern{-50em}x$",
    r"$\above{1em\" onclick=\"}$ $a \above{9999px} b$ $\genfrac(){\"onclick=}{0}{a}{b}$",
    r"$\operatorname{<img>}$ $\tag{<script>}$ $\verb|<script>alert(1)</script>|$",
    r"$\left<script>\right>$ $\big< x \middle< y$",
    r"$\mathbb{<script>}\mathrm{<img src=x onerror=alert(1)>}$",
    r"$\begin{array}{l\"onclick=}x\end{array}$ $\begin{<script>}x\end{<script>}$",
    r"$\def\x{\x\x}\x$ $\newcommand{\a}[1]{\b{#1#1}}\a{<script>}$",
]
CORPUS = CLASSIC + NAMESPACES + LINKS + BLOCKS + UNICODE + MATHEMATICS


class Reader(HTMLParser):
    """Reads HTML and complains about everything that is not expected; keeps what can be read."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.hidden = [], Counter(), "", ""

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        assert tag in HTML, f"<{tag}> in {self.open}"
        assert len(dict(attrs)) == len(attrs)
        for name, value in attrs:
            self._check(tag, name, value)
        if tag not in ("br", "hr"):
            self.open.append(tag)

    def _check(self, tag, name, value):
        if name == "class":
            assert all(CLASS.fullmatch(word) for word in value.split()), value
        elif tag == "a":
            assert name in ("href", "rel"), name
            assert urlsplit(value).scheme in ("http", "https", "mailto") or name == "rel", value
            assert value == "noopener noreferrer nofollow" or name == "href", value
        else:
            assert (tag, name) == ("ol", "start"), (tag, name)
            assert re.fullmatch("[0-9]{1,9}", value), value
        self.hidden += value if name == "href" else ""

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    handle_decl = handle_pi = unknown_decl = handle_comment


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open, reader.open
    return reader


def text_of(html):
    return read(html).text


# --- nothing can act --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", CORPUS, ids=range(len(CORPUS)))
def test_payload_cannot_act(payload):
    read(to_html(payload))
    read(to_html(f"- > {payload}\n\nbefore {payload} after"))
    read(to_html(f"**{payload}** | `{payload}` | ${payload}$"))


def test_the_reader_would_notice():
    assert len(CORPUS) >= 120
    unnoticed = []
    for payload in CLASSIC + NAMESPACES:
        with suppress(AssertionError):
            read(payload)
            unnoticed.append(payload)
    assert unnoticed == ["<svg/onload=alert`1`//"]  # html.parser waits for its end


@pytest.mark.parametrize("payload", ["[x](javascript:alert(1))", "![x](data:image/png;base64,AA)", "[x](/api/session)"])
def test_refused_links_are_shown_as_written(payload):
    assert text_of(to_html(payload)).strip() == payload


def test_links():
    html = to_html("[a](HTTPS://x.example/?a=1&b=2) <mailto:a@b.example> [b](http://가.example/나)")
    assert html.count(' rel="noopener noreferrer nofollow"') == 3
    assert re.findall('href="([^"]*)"', html) == [
        "HTTPS://x.example/?a=1&amp;b=2", "mailto:a@b.example", "http://가.example/나"]  # fmt: skip


def test_images_are_words():
    html = to_html("![a *cat*](https://x.example/cat.png)")
    assert text_of(html).strip() == "[image: a *cat*] (https://x.example/cat.png)"


# --- nothing is lost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("[1]: https://x.example/cited", "https://x.example/cited"),
        ("[comment]: # (nobody would see this)", "nobody would see this"),
        ("<!-- nor this -->", "<!-- nor this -->"),
        ("```python nor these words\nx\n```", "nor these words"),
        ("|a|\n|-|\n|b|nor this|", "nor this"),
        ('[a](http://x.example "nor this")', "nor this"),
        ("\n\n   indented\n\ttab", "indented"),
    ],
)
def test_what_others_hide_is_shown(source, kept):
    assert kept in text_of(to_html(source))


@pytest.mark.parametrize("levels", [1, 10, 19, 20, 25, 39, 40, 41, 60, 10_000])
@pytest.mark.parametrize("marker", ["> ", "- ", "1. ", "* > "])
def test_nesting_never_swallows_text(levels, marker):
    source = marker * levels + "the end"
    html = to_html(source)
    assert "the end" in text_of(html)
    assert ("too-deep" in html) == (levels * {"> ": 1, "* > ": 3}.get(marker, 2) + 1 >= render.MAX_NESTING)


PIECES = [
    *"ab가 \n*_`~#>-+|[]()!<>\\$&\"'=:^{}%/1.", "\n\n", "  ", "    ", "\t", "```", "~~~", "$$", r"\(", r"\)", r"\[",
    r"\]", "](http://h)", "](javascript:x)", "<http://h>", "|-|-|\n", "---", "&LT;", "&#60;", "&#x3C;",
    r"\frac{1}{2}", r"\text{", r"\begin{aligned}", r"\end{aligned}", r"\\", "<script>", "</code>", "\u202e", "\u0301",
    "- ", "> ", "1. ",
]  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_fuzz(source):
    """Only what is allowed, and every letter is still there (small ones: those of entities are large, but for x)."""
    reader = read(to_html(source))
    letters = Counter(re.findall("[a-wyz가]", source))
    assert letters <= Counter(reader.text + reader.hidden), source


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec=None), max_size=80))
def test_fuzz_any_unicode(source):
    html = to_html(source)
    html.encode()
    letters = Counter(char for char in source if char.isalnum())
    assert letters <= Counter(read(html).text), source


@pytest.mark.parametrize("char", [*"\u202a\u202e\u2066\u2069\u200b\u2060\ufeff\u3164", "\U000e0041"])
def test_what_cannot_be_seen_is_shown_by_its_number(char):
    """Everywhere: in text, code, links, images' words, tables, formulas, differences and what is too long."""
    tag = f'<span class="unseen">U+{ord(char):04X}</span>'
    for source in (f"a{char}b", f"`a{char}b`", f"```python\na{char}b\n```", f"[a{char}b](http://x.example)",
                   f"# a{char}b", f"![a{char}b](http://x.example)", f"|a{char}b|\n|-|", f"$a{char}b$"):  # fmt: skip
        html = to_html(source)
        assert tag in html, source
        assert char not in html, source
        read(html)
    assert tag in to_html(f"a{char}b" * render.MAX_MARKDOWN)
    assert tag in diff_html(f"a{char}b", "ab")[0]
    address = to_html(f"[a](http://x.example/{char})")
    assert text_of(address).strip() in ("a", f"[a](http://x.example/U+{ord(char):04X})")
    assert 'class="unseen"' not in "".join(re.findall("<a [^>]*>", address))


@pytest.mark.parametrize(
    "kept",
    [
        "👩\u200d🔬",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "می\u200cخواهم",
        "क्\u200dष",
        "❤\ufe0f",
    ],
)
def test_joiners_stay_where_they_join(kept):
    assert to_html(kept) == f"<p>{kept}</p>\n"
    assert "U+200D" in to_html("a\u200db")


# --- what Markdown, code and mathematics look like --------------------------------------------------------------------


def test_markdown():
    source = "# T\n\none\ntwo **b** _e_ ~~s~~ `c`\n\n3. x\n4. y\n\n| a | b |\n|:-|-:|\n| 1 | 2 |\n\n> q\n\n---\n"
    assert re.sub(r"\s*\n\s*", "", to_html(source)) == (
        "<h1>T</h1><p>one<br>two <strong>b</strong> <em>e</em> <s>s</s> <code>c</code></p>"
        '<ol start="3"><li>x</li><li>y</li></ol>'
        '<div class="table"><table><thead><tr><th class="align-left">a</th><th class="align-right">b</th></tr></thead>'
        '<tbody><tr><td class="align-left">1</td><td class="align-right">2</td></tr></tbody></table></div>'
        "<blockquote><p>q</p></blockquote><hr>"
    )


def test_code():
    html = to_html("```python\ndef f(): return '<b>'\n```")
    assert '<span class="language">python</span><pre><code><span class="c-k">def</span> ' in html
    assert "&lt;b&gt;" in html
    assert "<span" not in to_html("```nolanguage\nx = 1\n```").split("<pre>")[1]
    assert "<span" not in to_html("```c#\nint x = 1;\n```").split("<pre>")[1]


@pytest.mark.parametrize("language", sorted(render.LANGUAGES))
def test_every_language_has_a_lexer_and_keeps_the_code(language):
    code = "\n\n  if (x) { return \"a'b\"; } // c\n# d\n<e f='g'>\n\n\n"
    html = to_html(f"```{language}\n{code}```")
    assert text_of(html).removeprefix(language).removesuffix("\n") == code
    assert render.get_lexer_by_name(language)


def test_code_css_is_current_and_readable():
    css = code_css()
    assert (STATIC / "code.css").read_text("utf-8") == css
    for rules in (css.split("@media")[0], css.split(":root[data")[1]):
        ground = re.search("background: #([0-9a-f]{6})", rules)[1]
        colours = re.findall("[{ ]color: #([0-9a-fA-F]{6})", rules)
        assert len(colours) > 50
        assert min(contrast(colour, ground) for colour in colours) >= 4.5  # WCAG 2.2, 1.4.3


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("$x^2$", '<p><code class="formula">$x^2$</code></p>'),
        (r"값 \(x\)는", r'값 <code class="formula">\(x\)</code>는'),
        ("$$x$$", '<div class="math"><code class="formula display">$$x$$</code></div>'),
        ("\\[\nx\n\\].", '<div class="math"><code class="formula display">\\[\nx\n\\].</code></div>'),
        ("and $$x$$ inside", '<p>and <code class="formula display">$$x$$</code> inside</p>'),
        ("- a\n\n  $$\n  x\n  = y\n  $$", '<code class="formula display">$$\nx\n= y\n$$</code>'),
        (
            "\\begin{align}\na &= b \\\\\nc\n\\end{align}",
            "\\begin{align}\na &amp;= b \\\\\nc\n\\end{align}</code></div>",
        ),
        (r"$\text{if $a$}$ or $b$", r'$\text{if $a$}$</code> or <code class="formula">$b$<'),
        (r"$\text{<b>}$", r'<code class="formula">$\text{&lt;b&gt;}$</code>'),
        (r"**Q:** $5 = x$, $x$의 값", '<code class="formula">$x$</code>의 값'),
    ],
)
def test_formula(source, shown):
    """Its source as it was written, for who has no scripts; static/formulas.js typesets it."""
    assert shown in to_html(source)


@pytest.mark.parametrize(
    "source",
    ["$5 and $10", "US$5-US$7", "$5-$7", "between $5 and 10$", "$5와 10$ 사이", "$HOME and $PATH", "$HOME/$USER",
     "a$b$c", "($5)($10)", "from $5, $10 or $15", r"\$x\$", "$ x $", "$$"],
)  # fmt: skip
def test_no_formula(source):
    html = to_html(source)
    assert "formula" not in html
    assert text_of(html).strip() == source.replace("\\", "")


# --- it comes back soon -----------------------------------------------------------------------------------------------

BOMBS = {
    "brackets": "[" * 90_000,
    "images": "![" * 40_000,
    "dollars": "$" * 90_000,
    "dollars apart": "$a" * 40_000,
    "open formulas": "\\[x\n" * 20_000,
    "open displays": "$$x\n" * 20_000,
    "environments": "\\begin{align}\n" * 6_000,
    "brackets with emphasis": "[*a_" * 20_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_too_complex(name):
    html = to_html(BOMBS[name])
    assert html.startswith('<pre class="plain too-complex"><code>')
    assert text_of(html) == BOMBS[name]


def test_work_is_counted(monkeypatch):
    """The limit is a count of the parser's steps; ordinary text stays far below it."""
    prose = (
        "A *normal* paragraph with `code`, **bold**, $x^2$ and a [link](https://x.example).\n\n- one\n- two\n\n" * 400
    )
    assert to_html(prose).startswith("<p>")
    anew = to_html.__wrapped__  # without what was kept
    monkeypatch.setattr(render, "MAX_WORK", 60_000)
    assert anew(prose).startswith("<p>")
    monkeypatch.setattr(render, "MAX_WORK", 600)
    assert "too-complex" in anew(prose)


def test_too_long():
    text = "\n<b> 가나다 **bold**\n" * 20_000
    html = to_html(text)
    assert html.startswith('<pre class="plain too-long"><code>\n&lt;b&gt;')
    assert text_of(html) == text


@pytest.mark.parametrize("text", ["**a " * 5_000 + "a** " * 5_000, "\n".join("  " * i + "- a" for i in range(300))])
def test_too_deep(text):
    assert text_of(to_html(text)) == text
    assert "too-deep" in to_html(text)


def test_large_but_ordinary():
    table = to_html("| a | b |\n|---|---|\n" + "| one | **two** |\n" * 1_000)
    assert read(table).tags["tr"] == 1_001
    line = "token" * 5_000
    assert to_html(line) == f"<p>{line}</p>\n"
    wide = to_html("|" + "a|" * 3_000 + "\n|" + "-|" * 3_000 + "\n" + "|x\n" * 3_000)
    assert read(wide).text.count("x") == 3_000


def test_formulas_are_typeset_within_a_budget():
    """What is beyond it is marked, and whole."""
    html = to_html("$x+1$ " * 9_000)
    assert html.count('<code class="formula">$x+1$</code>') == formulas.MAX_FORMULAS // 5
    assert html.count('<code class="formula refused">$x+1$</code>') == 9_000 - formulas.MAX_FORMULAS // 5
    for opening, closing in (("$", "$"), ("$$\n", "\n$$"), (r"\(", r"\)")):
        for size, refused in ((3_900, False), (4_001, True), (19_000, True)):
            found = to_html(opening + "x" * size + closing)
            assert (" refused" in found) == refused
            assert text_of(found).strip() == opening + "x" * size + closing


def test_code_is_highlighted_within_a_budget(monkeypatch):
    seen = []
    lexer = render.get_lexer_by_name
    monkeypatch.setattr(render, "get_lexer_by_name", lambda name, **kw: seen.append(name) or lexer(name, **kw))
    for code in ("x = 1\n" * 1_000, "\n" * 200, " " * 3_000 + "x\n"):
        assert text_of(to_html(f"```c\n{code}```")) == f"c{code}\n"
    assert seen == []
    to_html("```c\nint x = 1;\nint y;\nint z;\n```\n" * 1_000)
    assert len(seen) <= render.MAX_CODES // len("int x = 1;\nint y;\nint z;\n")


def test_all_at_once_from_many_threads():
    """The first renderings of a process may be simultaneous: none sees half-prepared rules."""
    render._parser.cache_clear()
    source, found = "**b** $x$\n\n| a |\n|---|\n| 1 |\n\n```rust\nfn f() {}\n```", set()
    threads = [threading.Thread(target=lambda: found.add(to_html(source))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {to_html(source)}


# --- previews and differences -----------------------------------------------------------------------------------------


def test_plain():
    assert plain("  a\n\n\tb\u202ec\x00 d\u2028e ") == "a b c\ufffd d e"
    assert plain("가나다 " * 100, 10) == "가나다 가나다 가나…"
    assert plain("x" * 200) == "x" * 200
    assert plain("x" * 201) == "x" * 200 + "…"
    assert plain("") == ""
    assert plain(" " * 5_000 + "x").endswith("…")


def parts(html):
    """(tag, text) of a difference's side."""
    inner = html.removeprefix('<pre class="plain diff"><code>').removesuffix("</code></pre>")
    found = re.findall(r"<(ins|del)>(.*?)</\1>|([^<]+)", inner, re.DOTALL)
    return [(tag, unescape(changed or same)) for tag, changed, same in found]


@pytest.mark.parametrize(
    ("left", "right", "old", "new"),
    [
        ("I went home.", "I walked home.", [("", "I "), ("del", "went "), ("", "home.")],
         [("", "I "), ("ins", "walked "), ("", "home.")]),
        ("나는 학교에 갔다", "나는 학교는 갔다", [("", "나는 학교"), ("del", "에"), ("", " 갔다")],
         [("", "나는 학교"), ("ins", "는"), ("", " 갔다")]),
        ("사과를 먹었다", "비행기가 떴다", [("del", "사과를 먹었다")], [("ins", "비행기가 떴다")]),
        ("今日は雨", "今日は雪", [("", "今日は"), ("del", "雨")], [("", "今日は"), ("ins", "雪")]),
        ("a\nb\n", "a\nc\n", [("", "a\n"), ("del", "b\n")], [("", "a\n"), ("ins", "c\n")]),
        ("", "<b>", [], [("ins", "<b>")]),
        ("same", "same", [("", "same")], [("", "same")]),
        ("e\u0301 x", "e\u0300 x", [("del", "e\u0301 "), ("", "x")], [("ins", "e\u0300 "), ("", "x")]),
        ("👩‍🔬a", "👨‍🔬a", [("del", "👩‍🔬"), ("", "a")], [("ins", "👨‍🔬"), ("", "a")]),
    ],
)  # fmt: skip
def test_difference(left, right, old, new):
    assert [parts(side) for side in diff_html(left, right)] == [old, new]


WORDS = [
    "the ",
    "a\n",
    "가나 ",
    "가다 ",
    "漢",
    "字",
    "<b>",
    "&amp;",
    "\u202e",
    "e\u0301",
    "\n",
    "  ",
    "x.y",
    "👩‍🔬",
    "🇰🇷",
]


@settings(max_examples=150, deadline=None)
@given(*[st.lists(st.sampled_from(WORDS), max_size=40).map("".join)] * 2)
def test_difference_gives_back_both_texts(left, right):
    sides = diff_html(left, right)
    for side, text, tag in zip(sides, (left, right), ("del", "ins"), strict=True):
        assert text_of(side) == text.replace("\u202e", "U+202E")
        side = re.sub("<span[^>]*>|</span>", "", side)
        assert {found for found, _ in parts(side)} <= {"", tag}
    bare = [re.sub("<span[^>]*>|</span>", "", side) for side in sides]
    same = ["".join(text for tag, text in parts(side) if not tag) for side in bare]
    assert same[0] == same[1]


def test_difference_within_a_budget(monkeypatch):
    repeated = "the " * 3_000
    old, new = diff_html(f"{repeated}\nsame\n", f"{repeated}x\nsame\n")  # 9 million pairs of "the": by lines
    assert parts(old) == [("del", f"{repeated}\n"), ("", "same\n")]
    assert parts(new)[1] == ("", "same\n")
    assert diff_html("a\n" * 30_000, "a\n" * 29_999 + "b") is None
    assert diff_html("x" * 100_001, "y" * 100_000) is None
    monkeypatch.setattr(render, "MAX_DIFF_WORK", 3)
    assert diff_html("a b c d e", "a b c d f") is not None  # one line each
    assert diff_html("a\nb\nc\nd", "a\nb\nc\ne") is None


# --- in a browser -----------------------------------------------------------------------------------------------------

SCRIPT = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
const policy = trustedTypes.createPolicy("baro", { createHTML: (html) => html });
window.insert = (html) => {
  const box = document.createElement("div");
  box.innerHTML = policy.createHTML(html);
  document.querySelector("main").append(box);
  return box.textContent;
};
"""


@contextmanager
def served(pages):
    """A server on this machine; pages: path -> (content type, text)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            kind, text = pages.get(self.path, ("text/plain", ""))
            self.send_response(200 if self.path in pages else 404)
            self.send_header("content-type", f"{kind}; charset=utf-8")
            self.send_header("content-security-policy", CONTENT_SECURITY_POLICY)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_nothing_acts_in_a_browser(chromium):
    """Every payload, as part of the page and put in by script: no dialog, no request, no violation, no complaint."""
    from playwright.sync_api import sync_playwright

    rendered = [to_html(payload) for payload in CORPUS] + list(diff_html(*CORPUS[:2]))
    body = "".join(f"<section>{html}</section>" for html in rendered)
    head = '<!doctype html><html lang="en"><head><link rel="icon" href="/icon"><link rel="stylesheet" href="/code.css">'
    page_html = f'{head}<script src="/s.js"></script><title>x</title></head><body><main>{body}</main></body></html>'
    pages = {"/": ("text/html", page_html), "/s.js": ("text/javascript", SCRIPT), "/icon": ("image/svg+xml", "<svg/>")}
    pages["/code.css"] = ("text/css", code_css())
    noticed, requested = [], []
    with served(pages) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("dialog", lambda dialog: (noticed.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: noticed.append(message.text))
        page.on("pageerror", lambda error: noticed.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(address, wait_until="networkidle")
        texts = page.evaluate("(all) => all.map((html) => insert(html))", rendered)
        page.wait_for_timeout(200)
        found = page.evaluate(
            "() => [...document.querySelectorAll('main *')]"
            ".map((node) => [node.localName, [...node.attributes].map((attribute) => attribute.name)])"
        )
        assert page.evaluate("violations") == []
        sections = page.evaluate("() => [...document.querySelectorAll('main > section')].map((s) => s.textContent)")
        browser.close()
    assert noticed == []
    assert {urlsplit(url).path for url in requested if url.startswith(address)} <= {*pages}
    assert [url for url in requested if not url.startswith(address)] == []
    assert {name for name, _ in found} <= HTML | {"section"}
    assert {name for _, names in found for name in names} <= {"class", "href", "rel", "start"}
    assert texts == sections == [text_of(html) for html in rendered]
