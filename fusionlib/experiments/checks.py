"""What a notebook expects of its results: an expectation that is not met is a warning, and the results are kept."""

from collections.abc import Mapping

from fusionlib.utils.errors import print_problems

NOT_MET = "not as expected"


def expect(claims: Mapping[str, bool]) -> None:
    """Print "all checks passed", or which claims do not hold; a broken result is for an assertion instead.

    Args:
        claims: {sentence: whether it holds}; the sentences have the numbers in them, such as "the loss falls from 0.5
            to 0.4". After a short training, or one on a few pairs, some may not hold.
    """
    missed = [sentence for sentence, holds in claims.items() if not holds]
    print_problems(NOT_MET, missed)
    if missed:
        print(f"{len(claims) - len(missed)} of {len(claims)} checks passed; the results are kept")
    else:
        print("all checks passed")
