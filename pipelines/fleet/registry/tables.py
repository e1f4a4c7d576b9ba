"""The tables of a fleet's database, on SQLite and PostgreSQL alike. Times are seconds since 1970, UTC."""

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)

META = MetaData()

policies = Table(
    "policies",
    META,
    Column("digest", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("size", Integer, nullable=False),
    Column("task", String(200), nullable=False),
    Column("robot", String(200), nullable=False),
    Column("created", Float, nullable=False),
    Column("publisher", String(200), nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("signature", Text, nullable=False),
    Column("about", JSON, nullable=False),
    Column("lineage", JSON, nullable=False),
)

aliases = Table(
    "aliases",
    META,
    Column("name", String(64), primary_key=True),
    Column("digest", ForeignKey("policies.digest"), nullable=False),
    Column("since", Float, nullable=False),
)

robots = Table(
    "robots",
    META,
    Column("name", String(64), primary_key=True),
    Column("site", String(64), nullable=False, default=""),
    Column("fingerprint", String(64), nullable=False, default=""),
    Column("enrolled", Float, nullable=False),
    Column("state", String(64), nullable=False, default="new"),
    Column("last_seen", Float),
    Column("policy", String(64)),
    Column("firmware", String(64), nullable=False, default=""),
    Column("camera", String(64), nullable=False, default=""),
    Column("details", JSON, nullable=False, default=dict),
    Column("assigned", ForeignKey("policies.digest")),
    Column("rule", JSON),
    Column("stop", String(64)),
)

episodes = Table(
    "episodes",
    META,
    Column("id", Integer, primary_key=True),
    Column("robot", ForeignKey("robots.name"), nullable=False),
    Column("outbox", String(32), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("policy", String(64)),
    Column("task", String(200), nullable=False, default=""),
    Column("success", Boolean),
    Column("judge", String(64), nullable=False, default=""),
    Column("seconds", Float, nullable=False),
    Column("interventions", Integer, nullable=False, default=0),
    Column("safety_events", Integer, nullable=False, default=0),
    Column("firmware", String(64), nullable=False, default=""),
    Column("camera", String(64), nullable=False, default=""),
    Column("site", String(64), nullable=False, default=""),
    Column("time", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("details", JSON, nullable=False, default=dict),
    UniqueConstraint("robot", "outbox", "sequence"),
    Index("episodes_by_policy", "policy", "id"),
)
"""`outbox` names the robot's outbox that numbered it: one that was lost with its disk numbers anew."""

events = Table(
    "events",
    META,
    Column("id", Integer, primary_key=True),
    Column("robot", ForeignKey("robots.name"), nullable=False),
    Column("outbox", String(32), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("time", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("body", JSON, nullable=False),
    UniqueConstraint("robot", "outbox", "sequence"),
)

rollouts = Table(
    "rollouts",
    META,
    Column("id", Integer, primary_key=True),
    Column("policy", ForeignKey("policies.digest"), nullable=False),
    Column("baseline", ForeignKey("policies.digest")),
    Column("state", String(32), nullable=False),
    Column("created", Float, nullable=False),
    Column("ended", Float),
    Column("plan", JSON, nullable=False),
    Column("progress", JSON, nullable=False),
)

audit = Table(
    "audit",
    META,
    Column("id", Integer, primary_key=True),
    Column("time", Float, nullable=False),
    Column("who", String(200), nullable=False),
    Column("what", String(64), nullable=False),
    Column("details", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

KEPT = "the audit log is only ever added to"

for _what in ("UPDATE", "DELETE"):
    event.listen(
        audit,
        "after_create",
        DDL(
            f"CREATE TRIGGER audit_no_{_what.lower()} BEFORE {_what} ON audit "
            f"BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
        ).execute_if(dialect="sqlite"),
    )
event.listen(
    audit,
    "after_create",
    DDL(
        "CREATE FUNCTION audit_kept() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{KEPT}'; END $$; "
        "CREATE TRIGGER audit_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_kept()"
    ).execute_if(dialect="postgresql"),
)
