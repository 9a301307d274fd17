r"""Formulas as language models write them: what is typeset, and what stays as its source.

Each has its delimiters; those of a block stand on lines of their own.
"""

from __future__ import annotations

TYPESET = r"""
$x$
$x^2$
$a_n$
$a_{n+1}^{2}$
$-1$
$3.14$
$x = 50% \cdot y$
$50\% \text{ of } x$
$x = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}$
$\frac{1}{2}$
$\dfrac{a}{b} + \tfrac{c}{d}$
$\frac{\frac{1}{x} + \frac{1}{y}}{\frac{1}{x} - \frac{1}{y}}$
$\cfrac{1}{1 + \cfrac{1}{1 + \cfrac{1}{1 + x}}}$
$\sqrt{2}$
$\sqrt[3]{x^3 + y^3}$
$\sqrt{\frac{a}{b + \sqrt{c}}}$
$\binom{n}{k}$
$\binom{n}{k}^2$
$\dbinom{n}{k} p^k (1-p)^{n-k}$
$\sum_{i=1}^{n} i = \frac{n(n+1)}{2}$
$\prod_{k=1}^{\infty} \left(1 - q^k\right)$
$\int_0^1 x^2 \, dx = \frac{1}{3}$
$\iint_D f(x, y) \, dA$
$\oint_C \mathbf{F} \cdot d\mathbf{r}$
$\lim_{x \to 0} \frac{\sin x}{x} = 1$
$\limsup_{n \to \infty} a_n$
$\frac{d}{dx}\left[ f(g(x)) \right] = f'(g(x)) g'(x)$
$\frac{\partial^2 u}{\partial t^2} = c^2 \nabla^2 u$
$f''(x)$
$\dot{x}, \ddot{x}$
$\hat{y}, \bar{x}, \tilde{z}, \vec{v}$
$\widehat{ABC}$
$\overline{AB} \parallel \overline{CD}$
$\overrightarrow{AB}$
$\underline{x}$
$\alpha, \beta, \gamma, \delta, \epsilon, \varepsilon, \zeta, \eta, \theta$
$\Gamma(z) = \int_0^\infty t^{z-1} e^{-t} \, dt$
$e^{i\pi} + 1 = 0$
$\mathbb{R}^n, \mathbb{N}, \mathbb{Z}, \mathbb{Q}, \mathbb{C}$
$\mathcal{L}(\theta)$
$\mathfrak{g}$
$\mathscr{F}$
$\mathrm{d}x$
$\mathbf{A}\mathbf{x} = \mathbf{b}$
$\boldsymbol{\theta}$
$\bm{\mu}$
$\mathsf{T}$
$\mathtt{code}$
$\operatorname{rank}(A)$
$\operatorname*{argmax}_{\theta} \log p(x \mid \theta)$
$\arg\max_{\theta} \mathcal{L}(\theta)$
$\arg\min_x f(x)$
$\argmax_a Q(s, a)$
$\max_{a \in \mathcal{A}} Q(s, a)$
$\Pr(X = k)$
$\mathbb{E}_{x \sim p}\left[ f(x) \right]$
$\operatorname{Var}(X) = \mathbb{E}[X^2] - (\mathbb{E}[X])^2$
$\log p(x)$
$\ln 2 \approx 0.693$
$\sin^2\theta + \cos^2\theta = 1$
$\exp(-x)$
$\det(A - \lambda I) = 0$
$\gcd(a, b)$
$a \bmod n$
$a \equiv b \pmod{n}$
$a \mid b$
$a \nmid b$
$x \in A \cap B$
$A \subseteq B \cup C$
$A \setminus B$
$\emptyset, \varnothing$
$\forall x \, \exists y : x < y$
$\neg p \lor q \land r$
$p \implies q \iff \lnot q \implies \lnot p$
$x \to y \mapsto z$
$\Rightarrow, \Leftrightarrow, \longrightarrow$
$x \not= y$
$x \neq y$
$x \not\in A$
$x \notin A$
$a \le b \ge c \ll d \gg e$
$a \leqslant b \geqslant c$
$a \approx b \sim c \simeq d \cong e \propto f$
$x \pm y \mp z \times w \div v \cdot u$
$A \otimes B \oplus C$
$f \circ g$
$\nabla \times \mathbf{E} = -\frac{\partial \mathbf{B}}{\partial t}$
$\langle \psi | \phi \rangle$
$\left\langle x, y \right\rangle$
$\lVert x \rVert_2$
$\|x\|_1$
$|x|$
$\left| \frac{a}{b} \right|$
$\lfloor x \rfloor + \lceil y \rceil$
$\{1, 2, 3\}$
$\left\{ x \in \mathbb{R} : x^2 < 2 \right\}$
$\left( \frac{1}{2} \right)^n$
$\left. \frac{dy}{dx} \right|_{x=0}$
$\bigl( \bigr) \Bigl[ \Bigr] \biggl\{ \biggr\}$
$1, 2, \ldots, n$
$1 + 2 + \cdots + n$
$\ddots \vdots$
$\infty$
$90^\circ$
$90\degree$
$x'$
$\text{if } x > 0$
$\text{속도} = \frac{\text{거리}}{\text{시간}}$
$속도 = 거리 / 시간$
$\textbf{bold} \textit{slanted}$
$\mbox{words}$
$\boxed{42}$
$\boxed{x = \frac{1}{2}}$
$\cancel{x}$
$\frac{\cancel{2} \cdot 3}{\cancel{2} \cdot 5}$
$\bcancel{y} + \xcancel{z}$
$\xrightarrow{f}$
$A \xrightarrow[\text{heat}]{\Delta} B$
$X \xleftarrow{g} Y$
$\overset{!}{=}$
$\underset{x}{\min}$
$\stackrel{\text{def}}{=}$
$\underbrace{a + b + c}_{3 \text{ terms}}$
$\overbrace{x + y}^{z}$
$\color{red} x$
$\color{red}{x} + y$
$\textcolor{blue}{y} + z$
$\textcolor{#228B22}{z}$
$\colorbox{yellow}{$x$}$
$\color{white} seen$
$\fcolorbox{red}{black}{seen}$
$a\,b\;c\quad d\qquad e\!f$
$\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}$
$\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}^n$
$\begin{bmatrix} a & b \\ c & d \end{bmatrix}^{-1}$
$\begin{bmatrix} a & b \end{bmatrix}^T$
$\begin{vmatrix} a & b \\ c & d \end{vmatrix} = ad - bc$
$\begin{Bmatrix} 1 \\ 2 \end{Bmatrix}$
$\begin{smallmatrix} a & b \\ c & d \end{smallmatrix}$
$\bigl(\begin{smallmatrix} a & b \\ c & d \end{smallmatrix}\bigr)$
$\left[\begin{array}{cc|c} 1 & 0 & 2 \\ 0 & 1 & 3 \end{array}\right]$
$\begin{pmatrix} \phantom{-}1 & 0 \\ -1 & 2 \end{pmatrix}$
$\begin{cases} 1 & x > 0 \\ 0 & \text{otherwise} \end{cases}$
$f(n) = \begin{cases} n/2 & \text{if } n \text{ is even} \\ 3n+1 & \text{if } n \text{ is odd} \end{cases}$
$\begin{aligned} a &= b \\ c &= d \end{aligned}$
$\begin{rcases} a \\ b \end{rcases} \Rightarrow c$
$\begin{matrix} a & b \end{matrix}$
$\begin{gathered} a \\ b \end{gathered}$
$A = \begin{pmatrix} a_{11} & \cdots & a_{1n} \\ \vdots & \ddots & \vdots \\ a_{m1} & \cdots & a_{mn} \end{pmatrix}$
$\sum_{\substack{i < j \\ i \in S}} x_{ij}$
$\tbinom{n}{2}$
$\genfrac{(}{)}{0pt}{}{n}{k}$
$n \choose k$
$a \over b$
$\hbar, \ell, \Re, \Im, \aleph$
$\mathring{A}$
$\imath, \jmath$
$\checkmark$
$\square \blacksquare$
$\star, \ast, \dagger$
$\therefore \because$
$\angle ABC = 60^\circ$
$\triangle ABC$
$\perp$
$\mathrm{H_2O}$
$\mathrm{CO_2} \rightarrow \mathrm{C} + \mathrm{O_2}$
$5 \text{ kg} \cdot \text{m/s}^2$
$\$5 + \$10$
$\pi_\theta(a \mid s)$
$r_t(\theta) = \frac{\pi_\theta(a_t \mid s_t)}{\pi_{\theta_{\text{old}}}(a_t \mid s_t)}$
$D_{\mathrm{KL}}\left( p \,\middle\|\, q \right)$
$\sigma\bigl(\beta \log \tfrac{\pi(y_w)}{\pi(y_l)}\bigr)$
$\nabla_\theta J(\theta)$
$\mathcal{O}(n \log n)$
$O(n^2)$
$\Theta(n)$
$\hat{\boldsymbol{\beta}} = (X^\top X)^{-1} X^\top y$
$x^{(i)}$
$W^{[l]}$
$h_t = \tanh(W h_{t-1} + U x_t + b)$
$\frac{e^{z_i}}{\sum_j e^{z_j}}$
$\coloneqq$
$a^{b^{c^d}}$
$x_{1_{2_3}}$
$\large x$
$\displaystyle \sum_{i=1}^n i$
$\textstyle \int_a^b$
$\mathop{\mathrm{sgn}}(x)$
$\verb|a_b|$
$\rule{1em}{0.4pt}$
$\raisebox{0.2em}{x}$
$\smash{y}$
$\overleftrightarrow{AB}$
$\overgroup{AB}$
\(x^2\)
\(\frac{1}{2}\)
\[E = mc^2\]
$$\int_{-\infty}^{\infty} e^{-x^2} \, dx = \sqrt{\pi}$$
$$x = 1 \tag{1}$$
""".strip().splitlines()  # fmt: skip

BLOCKS = [
    "\\[\n\\begin{pmatrix} 2 & 1 \\\\ 1 & 3 \\end{pmatrix}^{-1} = \\frac{1}{5} \\begin{pmatrix} 3 & -1 \\\\ -1 & 2"
    " \\end{pmatrix}\n\\]",
    "$$\n\\begin{align}\nf(x) &= (x + 1)^2 \\\\\n&= x^2 + 2x + 1\n\\end{align}\n$$",
    "\\begin{align*}\n2x + y &= 5 \\\\\nx - y &= 1\n\\end{align*}",
    "\\begin{equation}\nx^2 + y^2 = z^2\n\\end{equation}",
    "\\begin{gather}\na = b \\\\\nc = d\n\\end{gather}",
    "$$\n\\left\\{\n\\begin{array}{l}\nx + y = 10 \\\\\nx - y = 2\n\\end{array}\n\\right.\n$$",
    "$$\n\\text{정답: } \\boxed{x = 3}\n$$",
    "$$\\frac{\\text{이긴 횟수}}{\\text{전체 횟수}} = \\frac{3}{4}$$.",
    "$$\n\\begin{array}{c|cc}\n& A & B \\\\\n\\hline\nx & 1 & 2 \\\\\ny & 3 & 4\n\\end{array}\n$$",
    "\\[\n\\begin{split}\n(a+b)^3 &= a^3 + 3a^2b \\\\\n&\\quad + 3ab^2 + b^3\n\\end{split}\n\\]",
    "$$\n\\begin{CD}\nA @>f>> B \\\\\n@VgVV @VVhV \\\\\nC @>>k> D\n\\end{CD}\n$$",
    "$$\n\\mathcal{L}_{\\text{DPO}}(\\pi_\\theta; \\pi_{\\text{ref}}) = -\\mathbb{E}_{(x, y_w, y_l) \\sim D}\\left["
    " \\log \\sigma\\left( \\beta \\log \\frac{\\pi_\\theta(y_w \\mid x)}{\\pi_{\\text{ref}}(y_w \\mid x)}"
    " - \\beta \\log \\frac{\\pi_\\theta(y_l \\mid x)}{\\pi_{\\text{ref}}(y_l \\mid x)} \\right) \\right]\n$$",
]

# what KaTeX does not know, or knows in part
UNKNOWN = r"""
$\ce{H2O}$
$\sideset{}{'}\sum_n a_n$
$\ce{2H2 + O2 -> 2H2O}$
$\SI{5}{\kilo\gram}$
$\unknowncommand{x}$
$x \undefined$
$\frac{1}{$
$\frac{a$
$\frac$
$a}$
$\left( x$
$x^1^2$
$x_1_2$
$\begin{foo} x \end{foo}$
$\begin{matrix} a & b \end{pmatrix}$
$\begin{tabular}{c} a \end{tabular}$
$\begin{align} a &= b \end{align}$
$a & b$
$x \tag{1}$
$\label{eq:one} x$
$\eqref{eq:one}$
$\require{cancel} x$
$\begin{multline} a \\ b \end{multline}$
$\dv{y}{x}$
$\mathds{1}$
$\mathbb{1}[x > 0]$
$\mathcal{l}(x)$
$\sqrt{$
$\text{unclosed$
$\DeclareMathOperator{\foo}{foo} \foo x$
""".strip().splitlines()

# what is more than mathematics: links, loads, styles, macros, and what hides words or moves them over others
_HOSTILE = r"""
$\href{https://evil.example}{x}$
$\href{javascript:alert(1)}{x}$
$\url{https://evil.example}$
$\includegraphics{https://evil.example/x.png}$
$\includegraphics[width=9em]{x}$
$\htmlClass{button}{x}$
$\htmlId{main}{x}$
$\htmlStyle{position:fixed;inset:0}{x}$
$\htmlData{a=b}{x}$
$\def\a{\a\a}\a$
$\gdef\frac{x}\frac$
$\newcommand{\x}[1]{#1#1} \x{y}$
$\renewcommand{\frac}{y} \frac$
$\let\a=\b \a$
$\phantom{hidden words}$
$\hphantom{hidden}$
$\vphantom{\text{hidden}}$
$\hspace{-500em} x$
$x \kern-30em y$
$x \\[-20em] y$
$\raisebox{-500em}{hidden}$
$\raisebox{9em}{over others}$
$\rule[-500em]{1em}{1em}$
$\mathllap{\text{over others}}$
$\text{\llap{over others}}$
$\smash{\begin{matrix} a \\ b \\ c \end{matrix}}$
$\@char{33}$
$\char"202E x$
""".strip().splitlines()
HOSTILE = [
    *_HOSTILE,
    "$" + r"\!" * 60 + "x$",
    "$\u202ex$",
    "$a\u200bb$",
    "$" + "{" * 500 + "x" + "}" * 500 + "$",
    "$" + r"\sqrt{" * 120 + "x" + "}" * 120 + "$",
    "$" + "x^{" * 200 + "y" + "}" * 200 + "$",
    "$" + r"\frac{1}{" * 90 + "y" + "}" * 90 + "$",
    "$" + "x+" * 2_500 + "x$",
]  # fmt: skip

REFUSED = [*UNKNOWN, *HOSTILE]

TEXT = [
    "It costs $5 and $10.",
    "US$5-US$7",
    "between $5 and 10$ a month",
    "$5와 10$ 사이",
    "$HOME and $PATH",
    "$HOME/$USER",
    "from $5, $10 or $15",
    "($5)($10)",
    "**$5** or **$10**",
    "a$b$c",
    "the $ sign",
    r"\$x\$",
]
