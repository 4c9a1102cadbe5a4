"""A stand-in for values that only a run knows."""

from typing import Any

from jinja2 import Undefined


class Later(Undefined):
    """Absorbs whatever a template does to it; is false, empty, not defined, and prints nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def _same(self, *_: Any, **__: Any) -> Any:
        return self

    __getitem__ = __call__ = _same
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _same
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = _same
    __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __pos__ = _same

    def _no(self, *_: Any) -> Any:
        return False

    __lt__ = __le__ = __gt__ = __ge__ = _no

    def __int__(self) -> Any:
        return 0

    def __float__(self) -> Any:
        return 0.0

    def __str__(self) -> str:
        return ""


LATER = Later()
