"""Data frames whose texts are shown in full."""

import pandas as pd


class TextFrame(pd.DataFrame):
    """A frame of sentences and links: shown whole, where pandas cuts cells at 50 characters and leaves out columns."""

    @property
    def _constructor(self):
        return TextFrame

    @property
    def _constructor_sliced(self):
        return TextSeries

    def __repr__(self):
        with _in_full():
            return super().__repr__()

    def _repr_html_(self):
        with _in_full():
            return super()._repr_html_()


class TextSeries(pd.Series):
    """A column or a row of a `TextFrame`."""

    @property
    def _constructor(self):
        return TextSeries

    @property
    def _constructor_expanddim(self):
        return TextFrame

    def __repr__(self):
        with _in_full():
            return super().__repr__()


def _in_full():
    return pd.option_context("display.max_colwidth", None, "display.max_columns", None, "display.max_rows", None)
