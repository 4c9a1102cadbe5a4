"""Pages over a fresh database, a browser that is signed in, and one that is not."""

import pytest
from argon2 import PasswordHasher
from starlette.testclient import TestClient

from galley.core.identity import passwords

from . import inert, samples
from .world import EMAIL, PASSWORD, World

ORIGIN = "http://127.0.0.1:8080"


class Browser(TestClient):
    """A client that sends what browsers send, and finds a page's forgery token."""

    def __init__(self, app, **kwargs):
        super().__init__(app, base_url=ORIGIN, follow_redirects=False, **kwargs)

    def request(self, *args, **kwargs):
        """Every page that any test sees must be inert, whatever names and texts it shows."""
        answer = super().request(*args, **kwargs)
        is_page = answer.headers.get("content-type", "").startswith("text/html")
        if is_page and "content-disposition" not in answer.headers:
            assert inert.faults_of(answer.text) == []
        return answer

    def csrf(self, path="/runs"):
        page = self.get(path).text
        return page.split('name="csrf" value="')[1].split('"')[0]

    def submit(self, path, fields=None, *, token=True, **headers):
        data = {"posted": "yes", **(fields or {})}
        if token:
            data.setdefault("csrf", self.csrf())
        sent = {"origin": ORIGIN, "sec-fetch-site": "same-origin", **headers}
        return self.post(path, data=data, headers=sent)

    def sign_in(self, email=EMAIL, password=PASSWORD, **fields):
        data = {"email": email, "password": password, **fields}
        return self.submit("/sign-in", data, token=False)


@pytest.fixture(autouse=True)
def cheap_hashing(monkeypatch):
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", hasher)
    monkeypatch.setattr(passwords, "NOBODY", hasher.hash("nobody"))


@pytest.fixture
def world(database, tmp_path, manual_clock):
    manual_clock.set(samples.NOW) if hasattr(manual_clock, "set") else None
    return World(database, tmp_path, manual_clock)


@pytest.fixture
def stranger(world):
    with Browser(world.app) as browser:
        yield browser


@pytest.fixture
def ada(world):
    world.add_user()
    with Browser(world.app) as browser:
        assert browser.sign_in().status_code == 303
        yield browser
