"""What the mini world's corpora hand to a pipeline that asks what captions state."""

from gmail_kedro.interfaces import CaptionGrammar
from gmail_kedro.mini.world.caption_facts import scene_tuples
from gmail_kedro.mini.world.caption_grammar import NOUNS
from gmail_kedro.mini.world.visual_questions import ask_about_caption

GRAMMAR = CaptionGrammar(nouns=NOUNS, facts=scene_tuples, ask=ask_about_caption)
