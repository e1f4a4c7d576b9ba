"""SQLAlchemy, or a message that says how to install it."""

from sim2real.errors import UserError

try:
    from sqlalchemy import bindparam, create_engine, event, func, insert, select, text, update
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
except ImportError:
    raise UserError(
        "a fleet's store needs SQLAlchemy, which is not installed: pip install 'sim2real-transfer[fleet]'"
    ) from None

__all__ = [
    "ArgumentError",
    "DBAPIError",
    "SQLAlchemyError",
    "bindparam",
    "create_engine",
    "event",
    "func",
    "insert",
    "make_url",
    "postgresql",
    "select",
    "sqlite",
    "text",
    "update",
]
