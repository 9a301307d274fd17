"""Sentences that many texts share."""

from baro.functional.repetition import most_common_sentence, sentences


def test_sentences_of_both_languages_without_what_is_too_short():
    assert sentences('Yes. You are valued and cared for! "So it is, my friend."\nNo') == [
        "you are valued and cared for!",
        "so it is, my friend.",
    ]
    assert sentences("네. 당신은 소중한 사람입니다. 도움이 필요하면 말씀하세요.") == [
        "당신은 소중한 사람입니다.",
        "도움이 필요하면 말씀하세요.",
    ]


def test_the_most_common_sentence_counts_each_text_once():
    same = "You are valued and cared for."
    found = most_common_sentence([f"{same} {same} {same}", f"Go home now. {same}", "Go home now, please.", "Go home."])
    assert found == ("you are valued and cared for.", 2)
    assert most_common_sentence(["No.", ""]) == ("", 0)
    assert most_common_sentence([]) == ("", 0)
