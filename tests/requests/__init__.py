"""Requests of real engines, beside what the engines themselves say of them."""

import pytest

pytest.register_assert_rewrite("tests.requests.served")
