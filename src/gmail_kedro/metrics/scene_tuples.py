"""F1 of the facts two captions state, in the manner of SPICE, where a grammar makes the facts certain.

SPICE parses captions into tuples by a statistical parser and matches them with synonyms. Where captions come from a
known grammar the parse is exact, so nothing has to be guessed and no Java is needed; the score is then not SPICE, and
never goes by that name.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

Facts = frozenset[tuple[str, ...]]


def tuple_f1(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    parse: Callable[[str], Facts],
) -> np.ndarray:
    """Returns each image's F1 of stated facts, x 100, of shape [N], in the references' order.

    With C the prediction's facts and R all facts of the references together, F1 = 2 |C & R| / (|C| + |R|).

    Example:
        >>> facts = lambda text: frozenset((word,) for word in text.split())
        >>> tuple_f1({"a": "red 7"}, {"a": ["red", "red 4"]}, facts).tolist()
        [50.0]

    Args:
        predictions: The caption of each image; one that states nothing scores 0.
        references: The reference captions of each image.
        parse: Maps a caption to the facts it states.

    Raises:
        ValueError: If there are no images, an image has no prediction, or its references state nothing.
    """
    if not references:
        raise ValueError("The F1 of stated facts needs at least one image. Got none.")
    scores = []
    for image, captions in references.items():
        if image not in predictions:
            raise ValueError(f"Every image must have a prediction. Image {image!r} has none.")
        truth = frozenset[tuple[str, ...]]().union(*map(parse, captions))
        if not truth:
            raise ValueError(f"The references of image {image!r} state no fact that the grammar knows: {captions[:2]}.")
        said = parse(predictions[image])
        scores.append(200.0 * len(said & truth) / (len(said) + len(truth)))
    return np.array(scores)
