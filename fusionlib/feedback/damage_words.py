"""Words about the damages of `fusionlib.data.degradation`: what an image suffers from, and how to mend it.

`describe` puts what `damage_analysis.detect` found into the sentences of the back end "rules"; `paraphrase` says the
same in many ways, so that Text-DFH learns the damages and not one sentence.
"""

from collections.abc import Sequence
from random import Random

from fusionlib.utils.errors import FusionError

NOUNS = {
    "ir": ("infrared image", "thermal image", "infrared picture", "thermal frame", "heat image", "long-wave image"),
    "visible": ("visible image", "visible-light image", "colour image", "camera image", "colour picture", "RGB frame"),
}
DEGREES = (  # for levels below the number
    (0.5, ("slightly", "a little", "somewhat")), (0.8, ("clearly", "visibly", "quite")),
    (2.0, ("strongly", "heavily", "badly")),
)  # fmt: skip
HELD_OUT = 2  # phrases at the end of each tuple below that training does not read

#: Name of the damage -> the modalities that can have it, what the image is, and what to do about it. The first phrases
#: are those of `describe`.
PHRASES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "haze": (("visible",),
             ("hazy", "foggy", "veiled by mist", "washed out by fog", "milky with haze", "covered by a gray veil",
              "misty", "lost in fog far away"),
             ("remove the haze and restore distant contrast", "dehaze it", "clear the fog", "take away the gray veil",
              "see through the mist", "lift the haze")),
    "rain": (("visible",),
             ("streaked by rain", "rainy", "full of rain streaks", "crossed by falling rain",
              "covered with streaks of rain", "shot in the rain", "veiled by a shower", "lined by raindrops"),
             ("remove the rain streaks", "derain it", "erase the streaks of rain", "take away the rain",
              "clean off the rain", "wipe out the raindrops")),
    "snow": (("visible",),
             ("speckled by snow", "snowy", "full of snowflakes", "dotted with falling snow",
              "covered by flakes of snow", "shot in a snowfall", "hidden behind drifting snow", "spotted by flakes"),
             ("remove the snowflakes", "desnow it", "erase the flakes", "take away the snow",
              "clean off the falling snow", "wipe out the snow")),
    "low contrast": (("ir",),
                     ("low in contrast", "flat", "of weak thermal contrast", "dull and gray", "faded",
                      "almost uniform", "weak in contrast", "of little contrast"),
                     ("stretch its contrast so that warm targets stand out", "raise its contrast",
                      "widen its range of gray levels", "make warm objects stand out", "strengthen its contrast",
                      "give it more contrast")),
    "defocus blur": (("ir", "visible"),
                     ("out of focus", "defocused", "blurred by a wrong focus", "soft from a focus error", "unsharp",
                      "badly focused", "blurry all over", "not in focus"),
                     ("sharpen its edges and textures", "refocus it", "undo the defocus", "bring it into focus",
                      "make it sharp", "restore the sharp edges")),
    "motion blur": (("ir", "visible"),
                    ("blurred by motion", "smeared by camera shake", "motion-blurred", "shaken",
                     "smeared in one direction", "blurred by a moving camera", "streaky from motion",
                     "blurred along the movement"),
                    ("undo the motion blur", "deblur it", "remove the camera shake", "sharpen it along the movement",
                     "stabilise it", "take back the smear")),
    "overexposure": (("visible",),
                     ("overexposed", "too bright", "blown out", "full of glare", "washed out by too long an exposure",
                      "burnt out in bright regions", "dazzled by light", "exposed too long"),
                     ("darken it and recover the detail in bright regions", "reduce the glare", "lower the exposure",
                      "bring back the bright regions", "suppress the dazzling light", "take back the overexposure")),
    "low light": (("visible",),
                  ("underexposed", "too dark", "dim and noisy", "badly lit", "short of light",
                   "taken in near darkness", "lost in shadows", "dark and grainy"),
                  ("brighten it and suppress the noise in its shadows", "light it up", "raise the exposure",
                   "bring out what the dark hides", "relight it", "enhance the dark image")),
    "stripe noise": (("ir",),
                     ("striped", "lined by stripe noise", "full of fixed-pattern stripes", "banded",
                      "covered with vertical or horizontal lines", "streaked by the sensor",
                      "marked by column noise", "overlaid with bands"),
                     ("remove the stripes", "destripe it", "even out the columns and rows", "take away the bands",
                      "correct the fixed pattern", "erase the lines")),
    "gaussian noise": (("ir", "visible"),
                       ("noisy", "grainy", "full of random noise", "speckled with sensor noise", "covered by grain",
                        "rough with noise", "spoilt by white noise", "disturbed by noise"),
                       ("reduce the noise and keep fine textures", "denoise it", "smooth the grain",
                        "filter out the noise", "clean it of noise", "remove the grain")),
    "jpeg": (("visible",),
             ("blocky from compression", "full of JPEG blocks", "damaged by compression",
              "spoilt by JPEG artefacts", "compressed too much", "broken into blocks", "blocky",
              "marred by block edges"),
             ("remove the block edges and restore fine textures", "deblock it", "undo the compression",
              "smooth the blocks", "repair the JPEG artefacts", "hide the block borders")),
}  # fmt: skip
#: The sentences of `paraphrase`; image, degree, look and mend are filled in.
TEMPLATES = ("The {image} is {degree} {look}; {mend}.", "The {image} is {look}.", "The {image} is {degree} {look}. "
             "Please {mend}.", "The {image} looks {look}, so {mend}.", "The {image} needs work: it is {degree} {look}; "
             "{mend}.", "Since the {image} is {look}, {mend}.", "There is a {image} that is {degree} {look}: {mend}.")


def describe(found: Sequence[tuple[str, str, float]]) -> str:
    """Advice in plain English on the damages that `detect` found: one sentence for each image; "" if there are none.

    Raises FusionError for a damage of another form.
    """
    check(found)
    sentences = []
    for modality, (noun, *_) in NOUNS.items():
        mine = [(name, level) for name, of, level in found if of == modality]
        if mine:
            *others, last = [f"{_degrees(level)[0]} {PHRASES[name][1][0]}" for name, level in mine]
            listed = f"{', '.join(others)} and {last}" if others else last
            sentences.insert(0, f"The {noun} is {listed}; {'; '.join(PHRASES[name][2][0] for name, _ in mine)}.")
    return " ".join(sentences)


def paraphrase(found: Sequence[tuple[str, str, float]], random: Random, held_out: bool = False) -> str:
    """The same in other words, a sentence for each damage; `held_out`: in phrases that training does not read.

    Raises FusionError for a damage of another form.
    """
    check(found)

    def pick(phrases):
        return random.choice(phrases[-HELD_OUT:] if held_out else phrases[:-HELD_OUT])

    found, sentences = list(found), []
    random.shuffle(found)
    for name, modality, level in found:
        _, looks, mends = PHRASES[name]
        words = {"image": pick(NOUNS[modality]), "look": pick(looks), "mend": pick(mends),
                 "degree": random.choice(_degrees(level))}  # fmt: skip
        sentences.append(random.choice(TEMPLATES).format(**words))
    return " ".join(sentences)


def check(found: Sequence[tuple[str, str, float]]) -> None:
    """FusionError unless each is (name, modality, level in 0..1), as of `detect`."""
    for damage in found:
        try:
            name, modality, level = damage
            fine = modality in PHRASES[name][0] and 0 <= level <= 1
        except (TypeError, ValueError, KeyError):
            fine = False
        if not fine:
            raise FusionError("damages: expected (name, modality, level in 0..1) as detect() gives them, found "
                              f"{damage!r}; take names and modalities out of DEGRADATIONS")


def _degrees(level):
    return next(words for limit, words in DEGREES if level < limit)
