"""Chat models that are written here, in place of models that are loaded."""

from baro.records import UNKNOWN, OptionScores, Reply


class Written:
    """Answers as ``say(conversation, key)`` tells (None: the call fails), and remembers what it was asked.

    scores: from a question to the log-probs of (A) and (B); None of a model that gives none.
    """

    def __init__(self, say=lambda conversation, key: "fine", scores=None, at_once=3):
        self.name, self.say, self.scores, self.at_once = "written", say, scores, at_once
        self.asked, self.questions, self.stop_after = [], [], None

    def chat(self, conversations, n, params, keys):
        return [[self._reply(one, key + k) for k in range(n)] for one, key in zip(conversations, keys, strict=True)]

    def _reply(self, conversation, key):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(conversation)
        text = self.say(conversation, key)
        if text is None:
            return Reply(None, error="no answer in 60 s")
        return Reply(text.removesuffix("…"), finished=not text.endswith("…"))

    def options(self, conversations, options):
        self.questions += conversations
        if self.scores is None:
            return [UNKNOWN for _ in conversations]
        asked = [next(turn.content for turn in one[::-1] if "(A) " in turn.content and "\n\n(B) " in turn.content)
                 for one in conversations]  # fmt: skip
        found = [self.scores(one) for one in asked]
        return [OptionScores(None, "no answer in 60 s") if one is None else OptionScores(tuple(one)) for one in found]
