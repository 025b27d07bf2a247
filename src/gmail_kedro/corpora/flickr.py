"""Reads Flickr's token files: ``results_20130124.token`` of Flickr30k, ``Flickr8k.token.txt`` renamed to ``.token``."""

from pathlib import Path

import pyarrow.compute as pc

from gmail_kedro.corpora.columns import CaptionColumns, Reading
from gmail_kedro.corpora.picture_files import find_pictures
from gmail_kedro.corpora.row_numbers import RowNumbers
from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.table_files import Wanted, stream_table
from gmail_kedro.corpora.texts import decode_texts
from gmail_kedro.corpora.tree import TreeImages, require_file, require_folder

TOKEN = r"^(?P<file>.+)#(?P<number>\d+)$"


def read_flickr(annotations: Path, images: Path, *, name: str, home: str = "", skip_missing: bool = False) -> Reading:
    """Returns the captions of a token file, in file order: lines of ``name.jpg#k``, a tab, and the caption.

    A picture is called by its file name, a caption by its token.

    Args:
        annotations: The token file.
        images: The folder of the pictures.
        name: What messages call the corpus.
        home: Where the files come from, for messages.
        skip_missing: Leave out, and count, the lines whose picture is not there.

    Raises:
        FileNotFoundError: If the file or the folder does not exist.
        ValueError: If a token is not of that form or occurs twice.
    """
    annotations = require_file(annotations, name=name, home=home)
    pictures = TreeImages(require_folder(images, name=name, home=home))
    skipped = Skipped()
    columns = CaptionColumns(("caption_id", "image_id", "caption"), skipped)
    content = Wanted(["token", "caption"], header=["token", "caption"])
    for numbers, batch in stream_table(annotations, content, rows=RowNumbers(), skipped=skipped):
        tokens = decode_texts(batch.column("token"))[0]
        parts = pc.extract_regex(tokens, pattern=TOKEN)
        bad = pc.indices_nonzero(pc.and_(pc.is_null(parts), pc.not_equal(tokens, "")))
        if len(bad):
            raise ValueError(
                f"Corpus {name!r}, '{annotations}': each line must begin with name.jpg#number and a tab. "
                f"Got {tokens[bad[0].as_py()].as_py()!r:.80} instead. Correct the line, or the layout in the catalog."
            )
        files = pc.struct_field(parts, "file")
        files, usable = find_pictures(files, numbers, pictures, skipped, skip_missing=skip_missing)
        columns.add(*(column.filter(usable) for column in (tokens, files, batch.column("caption"))), label="caption_id")
    captions = columns.frame()
    repeated = captions["caption_id"].duplicated()
    if repeated.any():
        raise ValueError(
            f"Corpus {name!r}, '{annotations}': the token {captions.loc[repeated, 'caption_id'].iloc[0]!r} must be "
            f"used once only. {int(repeated.sum())} lines repeat one. Remove them."
        )
    return Reading(captions, pictures, skipped)
