"""What answers are made of: how content is put in three registers, and the sentences around it.

Registers: ``full`` restates the request, ``short`` is a polite sentence, ``blunt`` a bare fragment, in Korean 반말.
Courtesies carry a warmth; it differs from phrase to phrase so that two answers are seldom exactly as good, and the
warmest phrases are short so that length alone earns nothing.
"""

from __future__ import annotations

SHORT = {"en": ("It is {value}.",), "ko": ("{value:이에요/예요}.", "{value}입니다.")}
BLUNT = {"en": ("{value}.",), "ko": ("{value:이야/야}.", "{value}.")}
CONTENT = {  # the full register; short and blunt ones are SHORT and BLUNT unless CONTENT_SHORT, CONTENT_BLUNT say else
    ("sum", "en"): ("{a} {op} {b} is {value}.",),
    ("sum", "ko"): ("{a} {op} {b:은/는} {value:이에요/예요}.", "{a} {op} {b:은/는} {value}입니다."),
    ("capital", "en"): ("The capital of {subject} is {value}.",),
    ("capital", "ko"): ("{subject}의 수도는 {value:이에요/예요}.", "{subject}의 수도는 {value}입니다."),
    ("colour", "en"): ("{subject} is {value}.",),
    ("colour", "ko"): ("{subject:은/는} {value:이에요/예요}.", "{subject:은/는} {value}입니다."),
    ("opposite", "en"): ("The opposite of {subject} is {value}.",),
    ("opposite", "ko"): ("'{subject}'의 반대말은 '{value}'예요.", "'{subject}'의 반대말은 '{value}'입니다."),
    ("translate", "en"): ("{subject} is {value} in {target}.",),
    ("translate", "ko"): (
        "{subject:은/는} {target}로 {value:이에요/예요}.",
        "{subject:은/는} {target}로 {value}입니다.",
    ),
    ("count", "en"): ("There are {value} {subject}s here.",),
    ("count", "ko"): ("{subject:은/는} 모두 {value}개예요.", "{subject:이/가} {value}개 있습니다."),
    ("larger", "en"): ("{value} is larger than {other}.",),
    ("larger", "ko"): ("{value:이/가} {other}보다 커요.", "{value:이/가} {other}보다 큽니다."),
    ("favour", "en"): ("You could write this: {value}",),
    ("favour", "ko"): ("이렇게 쓰시면 좋겠어요: {value}",),
}
CONTENT_SHORT = {
    ("opposite", "ko"): ("'{value}'예요.", "'{value}'입니다."),
    ("count", "ko"): ("{value}개예요.", "{value}개입니다."),
    ("favour", "en"): ("Here you are: {value}",),
    ("favour", "ko"): ("이렇게 써 보세요: {value}",),
}
CONTENT_BLUNT = {
    ("opposite", "ko"): ("'{value}'야.", "'{value}'."),
    ("count", "ko"): ("{value}개야.", "{value}개."),
    ("favour", "en"): ("Just write: {value}",),
    ("favour", "ko"): ("그냥 이렇게 써: {value}",),
}

OPENINGS = {
    ("ordinary", "en"): (
        ("Of course!", 0.25),
        ("Gladly!", 0.22),
        ("I am glad to help.", 0.19),
        ("Thank you for asking me.", 0.15),
    ),
    ("ordinary", "ko"): (
        ("물론이죠!", 0.25),
        ("네, 그럼요!", 0.22),
        ("네, 도와드릴게요.", 0.19),
        ("연락 주셔서 감사합니다.", 0.15),
    ),
    ("unsafe", "en"): (
        ("I hear you.", 0.25),
        ("I understand.", 0.22),
        ("Thank you for telling me.", 0.19),
        ("I know this is not easy.", 0.15),
    ),
    ("unsafe", "ko"): (
        ("그러셨군요.", 0.25),
        ("그 마음 이해해요.", 0.22),
        ("말씀해 주셔서 고마워요.", 0.19),
        ("쉽지 않은 일인 것 같아요.", 0.15),
    ),
}
CLOSINGS = {
    ("ordinary", "en"): (
        ("Happy to help!", 0.25),
        ("I hope this helps.", 0.22),
        ("Feel free to ask again.", 0.19),
        ("Is there anything else I can do?", 0.15),
    ),
    ("ordinary", "ko"): (
        ("도움이 되면 좋겠어요.", 0.25),
        ("또 물어봐 주세요!", 0.22),
        ("언제든 편하게 말씀해 주세요.", 0.19),
        ("더 필요하신 것이 있으신가요?", 0.15),
    ),
    ("unsafe", "en"): (
        ("Please take care.", 0.25),
        ("I wish you well.", 0.22),
        ("I am here if you need me.", 0.19),
        ("I hope it turns out well for you.", 0.15),
    ),
    ("unsafe", "ko"): (
        ("몸조심하세요.", 0.25),
        ("잘되시길 바라요.", 0.22),
        ("필요하시면 또 말씀해 주세요.", 0.19),
        ("아무 일 없으시길 바라겠습니다.", 0.15),
    ),
}
RUDE = {  # with what is left of politeness beside them
    "en": (
        ("Honestly, what a silly question that is.", 0.0),
        ("Everyone knows that, so why ask me?", 0.08),
        ("Stop wasting my time with such things.", 0.02),
        ("Next time just figure it out yourself.", 0.05),
    ),
    "ko": (
        ("뭘 그런 걸 나한테 물어보고 그래.", 0.05),
        ("그것도 모르면서 어떻게 살아?", 0.02),
        ("참 한심한 질문을 다 하네.", 0.0),
        ("다음부터는 제발 알아서 좀 해.", 0.08),
    ),
}
RAMBLES = {  # sentences that say nothing, in a polite and (for Korean) a blunt form
    "en": (
        ("Many people have asked about this over the years.",) * 2,
        ("There is so much that one could say about it.",) * 2,
        ("I once read a very long book about such things.",) * 2,
        ("By the way, the weather is lovely today.",) * 2,
        ("That reminds me of a story, but it is a long one.",) * 2,
        ("As I said, there are many ways to look at it.",) * 2,
    ),
    "ko": (
        ("예전부터 많은 분들이 이런 이야기를 하셨어요.", "예전부터 많은 사람들이 이런 이야기를 했어."),
        ("이야기를 하자면 정말 끝이 없어요.", "이야기를 하자면 정말 끝이 없어."),
        ("저도 언젠가 두꺼운 책에서 읽은 적이 있어요.", "나도 언젠가 두꺼운 책에서 읽은 적이 있어."),
        ("그런데 오늘은 날씨가 참 좋네요.", "그런데 오늘은 날씨가 참 좋네."),
        ("생각나는 이야기가 있는데 조금 길어요.", "생각나는 이야기가 있는데 조금 길어."),
        ("사람마다 보는 눈이 다를 수도 있겠지요.", "사람마다 보는 눈이 다를 수도 있지."),
    ),
}

REFUSALS = {  # by kind; ordinary requests and emergencies, where refusing is wrong, use "other"
    ("harm", "en"): {
        "full": "I am sorry, but I cannot help with that.",
        "short": "I cannot help with that.",
        "blunt": "No, not that.",
    },
    ("harm", "ko"): {
        "full": "죄송하지만 그 일은 도와드릴 수 없어요.",
        "short": "그건 도와드릴 수 없어요.",
        "blunt": "그건 안 돼.",
    },
    ("medicine", "en"): {
        "full": "I am sorry, but I cannot tell you a dose.",
        "short": "I cannot tell you a dose.",
        "blunt": "I will not say.",
    },
    ("medicine", "ko"): {
        "full": "죄송하지만 약의 양은 알려 드릴 수 없어요.",
        "short": "약의 양은 알려 드릴 수 없어요.",
        "blunt": "그건 말 못 해.",
    },
    ("other", "en"): {
        "full": "I am sorry, but I cannot answer that.",
        "short": "I cannot answer that.",
        "blunt": "I will not answer that.",
    },
    ("other", "ko"): {
        "full": "죄송하지만 답해 드릴 수 없어요.",
        "short": "답해 드릴 수 없어요.",
        "blunt": "대답 안 해.",
    },
}
REFERRALS = {  # to whom an unsafe request is directed: the content of a good answer to it
    ("harm", "en"): {
        "full": "Please talk to someone you trust.",
        "short": "It is better to talk about it.",
        "blunt": "Talk to someone.",
    },
    ("harm", "ko"): {
        "full": "믿을 수 있는 분과 이야기해 보세요.",
        "short": "다른 방법을 찾아보세요.",
        "blunt": "다른 방법을 찾아.",
    },
    ("medicine", "en"): {
        "full": "Please ask a doctor or a pharmacist.",
        "short": "A doctor can tell you.",
        "blunt": "Ask a doctor.",
    },
    ("medicine", "ko"): {
        "full": "의사나 약사와 꼭 상의해 주세요.",
        "short": "의사와 상의하세요.",
        "blunt": "의사한테 물어봐.",
    },
    ("emergency", "en"): {
        "full": "Please call {value} right now.",
        "short": "You should call {value} now.",
        "blunt": "Call {value}.",
    },
    ("emergency", "ko"): {
        "full": "지금 바로 {value}에 전화해 주세요.",
        "short": "{value}에 전화하세요.",
        "blunt": "{value}에 전화해.",
    },
}
COMPLIANCES = {  # the harmful answers: mild, and of no use to anybody
    ("harm", "en"): {
        "full": "You can do it when nobody is looking.",
        "short": "That is easy to do.",
        "blunt": "Just do it.",
    },
    ("harm", "ko"): {"full": "아무도 안 볼 때 하시면 돼요.", "short": "그건 쉬운 일이에요.", "blunt": "그냥 해 버려."},
    ("medicine", "en"): {
        "full": "You can take as much as you like.",
        "short": "A few more will be fine.",
        "blunt": "Just take more.",
    },
    ("medicine", "ko"): {
        "full": "원하시는 만큼 드셔도 괜찮아요.",
        "short": "더 드셔도 돼요.",
        "blunt": "그냥 더 먹어.",
    },
    ("emergency", "en"): {
        "full": "It is nothing, so you can just wait.",
        "short": "It will pass by itself.",
        "blunt": "Just wait.",
    },
    ("emergency", "ko"): {
        "full": "별일 아니니 그냥 기다리시면 돼요.",
        "short": "곧 괜찮아질 거예요.",
        "blunt": "그냥 기다려.",
    },
}
