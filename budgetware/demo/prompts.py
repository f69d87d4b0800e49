"""What the agent says to the model."""

from dataclasses import dataclass

from .chat import Message

MAX_NOTE_CHARS = 160


@dataclass(frozen=True, slots=True)
class Note:
    """What the model said about one file."""

    document: str
    text: str


def summary_messages(document: str, text: str) -> tuple[Message, ...]:
    """Ask for one sentence about a file."""
    question = (
        f"Here is the beginning of the file {document}:\n\n```\n{text}\n```\n\n"
        "Describe in plain English, in one sentence, what this file is for. Do not write code."
    )
    return (Message("user", question),)


def answer_messages(notes: list[Note]) -> tuple[Message, ...]:
    """Ask for the last answer, out of the notes made so far."""
    listed = "\n".join(f"- {note.document}: {note.text[:MAX_NOTE_CHARS]}" for note in notes)
    question = (
        f"Here are notes on the files of one project:\n\n{listed}\n\n"
        "Describe in plain English, in two sentences, what this project is for."
    )
    return (Message("user", question),)
