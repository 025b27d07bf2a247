"""Answer parsing against hand-checked answers, odd ones included, and the accuracies made from it."""

from collections import Counter

import pytest

from gmail_kedro.metrics.vqa import (
    VqaQuestion,
    is_open_answer_right,
    mmmu_result,
    parse_choice,
    parse_open,
    parse_scienceqa,
    scienceqa_result,
)

COLOURS = ("dark red", "blue", "pale green", "yellow")


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        (" B\t", "B"),
        ("C. pale green", "C"),
        ("The answer is D.", "D"),
        ("I think so. The answer is A. Because of the ink.", "A"),
        ("B\nbecause it is blue", "B"),  # a line break reads as a full stop
        ("The answer is A. No: The answer is B.", None),  # named twice
        ("The answer is B", None),  # no full stop
        ("the answer is B.", None),
        ("b", None),
        ("(B)", None),
        ("B)", None),
        ("E", None),  # there are four choices
        ("E. none", None),
        ("The answer is Z.", None),
        ("blue", None),
        ("", None),
        ("Ｂ", None),  # a full-width letter
    ],
)
def test_scienceqa_answers(response, letter):
    assert parse_scienceqa(response, 4) == letter


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("'B'", "B"),  # marks at the edges are taken off, each kind once and in a fixed order
        ("'B'!?", None),
        ("The answer is (C), not (A)", "A"),  # the last mention counts
        ("A or B", "B"),
        ("(A) but B", "A"),  # a bracket outranks a bare letter
        ("the paper on the page is Pale Green", "C"),
        ("first blue, and then dark red in the end", "A"),
        ("blue", None),  # words count in an answer of more than five words alone
        ("it is a blue page", None),
        ("b", None),
        ("A: blue", None),  # no space behind the letter
        ("AB", None),
        ("(E)", None),
        ("", None),
        ("…", None),
        ("答案是 C 。", "C"),
    ],
)
def test_mmmu_choices(response, letter):
    assert parse_choice(response, COLOURS) == letter


def test_a_bare_article_is_read_as_a_letter_as_the_official_rule_does():
    assert parse_choice("A blue page", COLOURS) == "A"


def test_a_choice_without_words_is_never_found_in_words():
    assert parse_choice("nothing of the kind is to be seen", ("", "blue")) is None


@pytest.mark.parametrize(
    ("response", "answers", "is_right"),
    [
        ("12.5", ("12.5",), True),
        ("The total is 12.504 metres.", ("12.5",), True),
        ("12.51", ("12.5",), False),
        ("about 1,250 in all", ("1250",), True),
        ("so x = 1.5e3", ("1500",), True),
        ("-3", ("3",), False),
        ("x = -3", ("-3",), True),
        ("it could be a Cat or a dog", ("dog", "horse"), True),
        ("it is a catalogue", ("cat",), True),  # words need only be contained
        ("blue", ("b",), False),  # one character must have a space beside it
        ("The answer is B", ("b",), True),
        ("The answer is b or c", ("b",), True),
        ("first guess is red\nfinal answer blue", ("blue",), True),
        ("first guess is red\nfinal answer blue", ("red",), True),  # every line may conclude
        ("y = 2 or less\nso it may be 3", ("2",), False),  # an equation concludes in the last line alone
        ("y = 2", ("2",), True),
        ("", ("2",), False),
        ("naïve Bayes", ("Naïve Bayes",), True),
        ("is :", ("2",), False),
    ],
)
def test_mmmu_open_answers(response, answers, is_right):
    assert is_open_answer_right(parse_open(response), answers) is is_right


def test_what_an_open_answer_may_mean():
    assert parse_open("So the sum is 1,234.") == [1234.0, 234.0]  # the official rule reads the tail as well
    assert parse_open("Blue") == ["blue"]
    assert parse_open("the result is 7 dogs") == ["7 dogs", 7.0]


def test_scienceqa_accuracy_counts_an_unparsed_answer_as_wrong():
    questions = {str(number): VqaQuestion(COLOURS, ("B",)) for number in range(4)}
    result = scienceqa_result({"0": "B", "1": "B. blue", "2": "A", "3": "who knows"}, questions)
    assert result.correct.tolist() == [True, True, False, False]
    assert result.scores() == {"accuracy": 50.0, "unparsed_share": 25.0}
    assert result.unparsed == ("3",)


def test_mmmu_accuracy_is_over_all_questions_together():
    questions = {
        "art_1": VqaQuestion(COLOURS, ("B",)),
        "art_2": VqaQuestion(COLOURS, ("C",)),
        "maths_1": VqaQuestion((), ("12.5", "twelve and a half")),
        "maths_2": VqaQuestion((), ("7",)),
    }
    responses = {"art_1": "(B)", "art_2": "(A)", "maths_1": "twelve and a half", "maths_2": "8"}
    result = mmmu_result(responses, questions)
    assert result.correct.tolist() == [True, False, True, False]
    assert (result.accuracy, result.unparsed) == (50.0, ())


def test_guesses_hang_on_seed_and_question_and_not_on_order():
    questions = {f"q{number}": VqaQuestion(COLOURS, ("B",)) for number in range(2000)}
    responses = dict.fromkeys(questions)
    result = mmmu_result(responses, questions)
    backwards = mmmu_result(responses, dict(reversed(list(questions.items()))))
    assert result.correct.tolist() == backwards.correct.tolist()[::-1]
    assert result.accuracy == pytest.approx(25, abs=4)
    assert len(result.unparsed) == 2000
    assert mmmu_result(responses, questions, seed=1).correct.tolist() != result.correct.tolist()


def test_every_letter_is_guessed():
    questions = {f"q{number}": VqaQuestion(COLOURS, (letter,)) for number, letter in enumerate("ABCD" * 300)}
    result = mmmu_result(dict.fromkeys(questions, "no idea"), questions)
    pairs = zip(questions.values(), result.correct, strict=True)
    hits = Counter(question.answers[0] for question, right in pairs if right)
    assert set(hits) == set("ABCD")


@pytest.mark.parametrize(
    ("responses", "questions", "message"),
    [
        ({}, {}, "at least one question"),
        ({}, {"1": VqaQuestion(COLOURS, ("A",))}, r"1 questions have no response: \['1'\]"),
        ({"1": "A", "2": "B"}, {"1": VqaQuestion(COLOURS, ("A",))}, r"1 responses belong to no question: \['2'\]"),
        ({"1": "A"}, {"1": VqaQuestion(COLOURS, ("E",))}, r"'1' must be one of its letters, A to D. Got \['E'\]"),
        ({"1": "A"}, {"1": VqaQuestion(COLOURS, ("A", "B"))}, "must be one of its letters"),
        ({"1": "A"}, {"1": VqaQuestion((), ())}, "'1' has no choices"),
        ({"1": None}, {"1": VqaQuestion((), ("2",))}, "must have accepted answers and a response"),
    ],
)
def test_wrong_questions_are_refused(responses, questions, message):
    with pytest.raises(ValueError, match=message):
        mmmu_result(responses, questions)


def test_scienceqa_has_no_open_questions():
    with pytest.raises(ValueError, match="ScienceQA has none of that kind"):
        scienceqa_result({"1": "2"}, {"1": VqaQuestion((), ("2",))})
