"""Made-up people and where they live: pools drawn from faker once, then combined, since faker is too slow per row."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TypeVar

from faker import Faker

COLUMNS = ("first_name", "last_name", "email", "street", "city", "state", "country")
FIRST_NAME, LAST_NAME, EMAIL, STREET, CITY, STATE, COUNTRY = range(len(COLUMNS))

_Drawn = TypeVar("_Drawn")

_DRAWS = 500  # per pool and country
_MAIL = ("example.com", "example.net", "example.org")


@dataclass(frozen=True)
class _Country:
    """One country's pools. `address` puts a house number to a street, as is the custom there."""

    name: str
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    streets: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    address: str


# Country, faker's locale, its word for the region, the form of an address. Commas are meant: they have to be quoted.
# Not Italy: faker 40.54 draws its cities from a set, so they differ from process to process whatever the seed.
_COUNTRIES = (
    ("United States", "en_US", "state", "{number} {street}"),
    ("United States", "en_US", "state", "{number} {street}, Apt. {door}"),
    ("United Kingdom", "en_GB", "county", "{number} {street}"),
    ("Germany", "de_DE", "state", "{street} {number}"),
    ("Portugal", "pt_PT", "administrative_unit", "{street}, {number}"),
    ("France", "fr_FR", "region", "{number} {street}"),
    ("Spain", "es_ES", "region", "{street} {number}, {door}"),
)


class People:
    """Draws persons and the changes of their lives. Equal seeds draw equal people.

    A person is a list of texts in the order of `COLUMNS`.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(f"people {seed}").random
        self._countries = [_pools(*country, seed=seed) for country in _COUNTRIES]
        names = {name for country in self._countries for name in (*country.first_names, *country.last_names)}
        self._mailbox = {name: _ascii(name) for name in names}

    def person(self) -> list[str]:
        """Somebody new."""
        country = self._pick(self._countries)
        person = [self._pick(country.first_names), self._pick(country.last_names), "", "", "", "", ""]
        self.change_email(person)
        self._settle(person, country)
        return person

    def change(self, person: list[str]) -> None:
        """Something happens, in place: most often a new e-mail address or a move, seldom another last name."""
        drawn = self._random()
        if drawn < 0.5:
            self.change_email(person)
        elif drawn < 0.9:
            self._settle(person, self._pick(self._countries))
        else:
            person[LAST_NAME] = self._pick(self._pick(self._countries).last_names)
            self.change_email(person)

    def change_email(self, person: list[str]) -> None:
        """Another e-mail address, in place, different from the present one."""
        before = person[EMAIL]
        while person[EMAIL] == before:
            first, last = self._mailbox[person[FIRST_NAME]], self._mailbox[person[LAST_NAME]]
            person[EMAIL] = f"{first}.{last}{int(self._random() * 1000)}@{self._pick(_MAIL)}"

    def _settle(self, person: list[str], country: _Country) -> None:
        number, door = 1 + int(self._random() * 250), 1 + int(self._random() * 60)
        person[STREET] = country.address.format(number=number, street=self._pick(country.streets), door=door)
        person[CITY], person[STATE] = self._pick(country.places)
        person[COUNTRY] = country.name

    def _pick(self, pool: Sequence[_Drawn]) -> _Drawn:
        return pool[int(self._random() * len(pool))]


@lru_cache(maxsize=64)
def _pools(name: str, locale: str, region: str, address: str, *, seed: int) -> _Country:
    faker = Faker(locale)
    faker.seed_instance(f"{seed} {name} {address}")

    def draws(draw: Callable[[], str]) -> tuple[str, ...]:
        return tuple(draw() for _ in range(_DRAWS))

    return _Country(
        name=name,
        first_names=draws(faker.first_name),
        last_names=draws(faker.last_name),
        streets=draws(faker.street_name),
        places=tuple(zip(draws(faker.city), draws(getattr(faker, region)), strict=True)),
        address=address,
    )


def _ascii(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    return "".join(letter for letter in plain.lower() if letter.isalnum())
