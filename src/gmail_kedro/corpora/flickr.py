"""Reads Flickr's token files: ``results_20130124.token`` of Flickr30k, ``Flickr8k.token.txt`` renamed to ``.token``."""

from pathlib import Path

import pyarrow.compute as pc

from gmail_kedro.corpora.caption_table import CaptionBlocks, CaptionTable
from gmail_kedro.corpora.caption_text import decode_texts
from gmail_kedro.corpora.find_files import find_images, require_file, require_folder
from gmail_kedro.corpora.skipped_entries import Skipped
from gmail_kedro.corpora.table_streaming import RowNumbers, Wanted, stream_table
from gmail_kedro.images.image_files import ImageFiles

TOKEN = r"^(?P<file>.+)#(?P<number>\d+)$"


def read_flickr(
    annotations: Path, images: Path, *, name: str, home: str = "", skip_missing: bool = False
) -> CaptionTable:
    """Returns the captions of a token file, in file order: lines of ``name.jpg#k``, a tab, and the caption.

    An image is called by its file name, a caption by its token. The arguments are those of ``read_table``.

    Raises:
        ValueError: If a token is not of that form or occurs twice.
    """
    annotations = require_file(annotations, name=name, home=home)
    source = ImageFiles(require_folder(images, name=name, home=home))
    skipped = Skipped()
    blocks = CaptionBlocks(("caption_id", "image_id", "caption"), skipped)
    content = Wanted(["token", "caption"], header=["token", "caption"])
    for numbers, batch in stream_table(annotations, content, rows=RowNumbers(), skipped=skipped):
        tokens = decode_texts(batch.column("token"))[0]
        parts = pc.extract_regex(tokens, pattern=TOKEN)
        # A blank line, or one with a wrong number of tabs, is counted; another form of token is another layout.
        bad = pc.indices_nonzero(pc.and_(pc.is_null(parts), pc.not_equal(tokens, "")))
        if len(bad):
            raise ValueError(
                f"Corpus {name!r}, '{annotations}': each line must begin with name.jpg#number and a tab. "
                f"Got {tokens[bad[0].as_py()].as_py()!r:.80} instead. Correct the line, or the layout in the catalog."
            )
        files = pc.struct_field(parts, "file")
        files, usable = find_images(files, numbers, source.folder, skipped, skip_missing=skip_missing)
        blocks.add(*(column.filter(usable) for column in (tokens, files, batch.column("caption"))))
    captions = blocks.frame()
    repeated = captions["caption_id"].duplicated()
    if repeated.any():
        raise ValueError(
            f"Corpus {name!r}, '{annotations}': the token {captions.loc[repeated, 'caption_id'].iloc[0]!r} must be "
            f"used once only. {int(repeated.sum())} lines repeat one. Remove them."
        )
    return CaptionTable(captions, source, skipped)
