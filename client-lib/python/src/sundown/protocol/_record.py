"""Records and enums of the wire, declared as classes with annotations.

A record is used like a frozen dataclass: it has the fields of its annotations, compares by them, cannot be changed, and works with
`dataclasses.fields`, `asdict` and `replace`. It is no `@dataclass`, because making the 150 classes of the protocol with that decorator takes
100 ms at each import; here a class costs some microseconds until it is used.

Annotations are read as text by `_codec`, so a module that declares records has `from __future__ import annotations`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Dict, NoReturn, Tuple, Type, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        return lambda decorated: decorated


_R = TypeVar("_R", bound="Record")


class _Made:
    """What `dataclasses` and `pprint` look for in a class, made when it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, record: object, owner: Type[Record]) -> Any:
        import dataclasses

        namespace = {name: owner._defaults[name] for name in owner._names if name in owner._defaults}
        fields = [(name, Any, namespace[name]) if name in namespace else (name, Any) for name in owner._names]
        made = dataclasses.make_dataclass(owner.__name__, fields, frozen=True)
        return getattr(made, self._name)


@dataclass_transform(frozen_default=True)
class Record:
    """Base of all records. Fields are given by place or by name."""

    _names: ClassVar[Tuple[str, ...]] = ()
    _defaults: ClassVar[Dict[str, Any]] = {}
    __dataclass_fields__: ClassVar[Any] = _Made("__dataclass_fields__")
    __dataclass_params__: ClassVar[Any] = _Made("__dataclass_params__")

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        annotations: Dict[str, str] = cls.__dict__.get("__annotations__", {})
        own = tuple(name for name, text in annotations.items() if not text.startswith("ClassVar"))
        cls._names = cls._names + own
        cls._defaults = {**cls._defaults, **{name: cls.__dict__[name] for name in own if name in cls.__dict__}}
        setattr(cls, "__match_args__", cls._names)  # noqa: B010 - type checkers know it as a constant

    if not TYPE_CHECKING:

        def __init__(self, *values: Any, **named: Any) -> None:
            names = self._names
            if not named and len(values) == len(names):
                self.__dict__.update(zip(names, values))
                return
            if len(values) > len(names):
                raise TypeError(f"{type(self).__name__} has {len(names)} fields, and {len(values)} values are given")
            given = dict(self._defaults)
            given.update(zip(names, values))
            for name, value in named.items():
                if name not in names:
                    raise TypeError(f"{type(self).__name__} has no field {name!r}; it has {', '.join(names)}")
                if name in names[: len(values)]:
                    raise TypeError(f"{type(self).__name__} is given {name!r} twice")
                given[name] = value
            missing = [name for name in names if name not in given]
            if missing:
                raise TypeError(f"{type(self).__name__} lacks {', '.join(missing)}")
            # In the order of the fields, past the refusal to change them.
            self.__dict__.update((name, given[name]) for name in names)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed; make another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed; make another one")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.__dict__.values())))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self._names)
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), tuple(self.__dict__.values())


class Variants:
    """The variants of an enum of the wire, by their tags and by their names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.by_tag: Dict[int, Type[Record]] = {}
        self.by_name: Dict[str, Type[Record]] = {}

    def add(self, tag: int, variant: Type[Record], name: str) -> None:
        if tag != len(self.by_tag):
            raise TypeError(f"{variant.__name__} of {self.name} has tag {tag}, and the next one is {len(self.by_tag)}")
        self.by_tag[tag] = variant
        self.by_name[name] = variant


class Choice(Record):
    """Base of the enums of the wire whose variants have fields: one class for the enum, and a subclass with `tag=` for each variant.

    `name=` is the variant's name on the wire, where the class needs another one.
    """

    variants: ClassVar[Variants]
    tag: ClassVar[int]

    def __init_subclass__(cls, tag: int = -1, name: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if tag < 0:
            cls.variants = Variants(cls.__name__)
        else:
            cls.tag = tag
            cls.variants.add(tag, cls, name or cls.__name__)
