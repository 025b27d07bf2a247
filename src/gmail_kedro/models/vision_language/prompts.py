"""What a vision-language model is asked, in the words of the benchmarks' own evaluation code."""

from gmail_kedro.interfaces import Question

LETTERS = "ABCDEFGHIJ"
CAPTION_PROMPT = "Provide a one-sentence caption for the provided image."
LETTER_PROMPT = "Answer with the option's letter from the given choices directly."
SHORT_PROMPT = "Answer the question using a single word or phrase."
NO_CONTEXT = "N/A"


def scienceqa_prompt(question: Question) -> str:
    """Returns a question in ScienceQA's format CQM-A, as LLaVA asks it: context, question, options, and the request.

    Raises:
        ValueError: If the question has no options.
    """
    if not question.options:
        raise ValueError(
            f"The question {question.question_id!r} has no options; ScienceQA's format needs them. Ask it as MMMU does."
        )
    context = question.context.strip().replace("\n", " ") or NO_CONTEXT
    options = " ".join(f"({letter}) {option}" for letter, option in _lettered(question))
    return f"Context: {context}\nQuestion: {question.text}\nOptions: {options}\n{LETTER_PROMPT}"


def mmmu_prompt(question: Question) -> str:
    """Returns a question as MMMU's evaluation of LLaVA-1.5 asks it: with lettered lines, or for a short answer."""
    if not question.options:
        return f"{question.text}\n\n{SHORT_PROMPT}"
    options = "\n".join(f"({letter}) {option}" for letter, option in _lettered(question))
    return f"{question.text}\n\n{options}\n\n{LETTER_PROMPT}"


def right_answer(question: Question) -> str:
    """Returns what the prompt asks for: the letter of the right option, or the first of the accepted answers.

    Raises:
        ValueError: If the answer is no letter of the options.
    """
    answer, letters = question.answers[0], LETTERS[: len(question.options)]
    if question.options and (len(answer) != 1 or answer not in letters):
        raise ValueError(
            f"The answer {answer!r} of the question {question.question_id!r} must be the letter of one of its options "
            f"{list(question.options)}. Mend the file of questions."
        )
    return answer


def _lettered(question: Question) -> list[tuple[str, str]]:
    if len(question.options) > len(LETTERS):
        raise ValueError(
            f"The question {question.question_id!r} has {len(question.options)} options; at most {len(LETTERS)} have "
            "a letter."
        )
    return list(zip(LETTERS, question.options, strict=False))
