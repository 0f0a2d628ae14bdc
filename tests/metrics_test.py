"""The numbers of a session: always what a recount of the rows says, whatever happened and from wherever."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from people import people
from postgrest import RequestError
from recount import DIFFERENCES, differences, rest, unaccounted
from refusals import refused
from sizes import own_db, scale

SEED = 20_260_101
NUMBERS = (
    "current_viewers, peak_viewers, total_unique_viewers, total_watch_time_seconds, total_watch_time_minutes,"
    " average_watch_time_minutes, total_messages, total_reactions, total_shares, total_products_showcased,"
    " total_clicks, total_orders, total_revenue, conversion_rate, connection_issues_count, buffering_events,"
    " total_buffering_time_seconds"
)


def numbers(db, session):
    """The session's numbers by name, at rest."""
    rest(db)
    (row,) = db.sql(f"select {NUMBERS} from public.live_stream_sessions where id = %s", [session["id"]])
    return row


def counts(db, session):
    row = numbers(db, session)
    return row["current_viewers"], row["peak_viewers"], row["total_unique_viewers"]


# Thousands of random operations, from several connections at once.

# What a request may be refused with here: conflicts of the data. Bulk statements conflict with each other as well.
EXPECTED = {"23505", "23514", "23503", "PT404", "PT409", "42501", "PGRST116"}
CONFLICTS = {"40P01", "40001"}

# Statements of a server. {n} is how many rows at most, {p} a random number from 0 to 1, {session} a random session.
SOME = "(select id from public.live_stream_{0} order by md5(id::text || '{salt}') limit {n})"
BULK = [
    """insert into public.live_stream_viewers (session_id, user_id, joined_at, left_at)
       select s.id, case when g % 3 > 0 then ('{users}'::uuid[])[1 + (g * 7 + {n}) % 12] end,
              now() - make_interval(secs => g * 13),
              case when g % 4 = 0 or s.status in ('ended', 'cancelled') then now() - make_interval(secs => g) end
         from public.live_stream_sessions s, generate_series(1, {n}) g
        where md5(s.id::text || g || '{salt}') < '8'""",
    f"""update public.live_stream_viewers set is_still_watching = not is_still_watching
        where id in {SOME.format("viewers", n="{n}", salt="{salt}")}""",
    f"""update public.live_stream_viewers set joined_at = joined_at - interval '7 seconds'
        where id in {SOME.format("viewers", n="{n}", salt="{salt}")}""",
    f"""update public.live_stream_viewers
           set user_id = case when {{p}} < 0.5 then ('{{users}}'::uuid[])[{{n}} % 12 + 1] end
        where id in {SOME.format("viewers", n="{n}", salt="{salt}")}""",
    f"""update public.live_stream_viewers set session_id = '{{session}}'
        where id in {SOME.format("viewers", n="5", salt="{salt}")}""",
    f"""update public.live_stream_viewers
           set buffering_time_seconds = buffering_time_seconds + 3, disconnections_count = disconnections_count + 1
        where id in {SOME.format("viewers", n="{n}", salt="{salt}")}""",
    f"delete from public.live_stream_viewers where id in {SOME.format('viewers', n='{n}', salt='{salt}')}",
    """insert into public.live_stream_chat (session_id, viewer_id, message, message_type)
       select session_id, case when {p} < 0.7 then id end, 'hello',
              (array['chat', 'reaction', 'system', 'chat'])[1 + {n} % 4]::public.live_stream_message_type
         from public.live_stream_viewers order by md5(id::text || '{salt}') limit {n}""",
    """insert into public.live_stream_chat (session_id, parent_message_id, message)
       select session_id, id, 'an answer' from public.live_stream_chat order by md5(id::text || '{salt}') limit {n}""",
    f"""update public.live_stream_chat set is_deleted = not is_deleted, message_type = 'chat'
        where id in {SOME.format("chat", n="{n}", salt="{salt}")}""",
    f"delete from public.live_stream_chat where id in {SOME.format('chat', n='3', salt='{salt}')}",
    """insert into public.live_stream_chat_reactions (message_id, user_id, reaction)
       select m.id, ('{users}'::uuid[])[{n} % 12 + 1], (array['heart', 'fire', '"'])[1 + {n} % 3]
         from (select id from public.live_stream_chat where not is_deleted
                order by md5(id::text || '{salt}') limit {n}) m
       on conflict do nothing""",
    """delete from public.live_stream_chat_reactions
        where (message_id, user_id, reaction) in (
          select message_id, user_id, reaction from public.live_stream_chat_reactions
           order by md5(message_id::text || '{salt}') limit {n})""",
    """insert into public.live_stream_products (session_id, product_id, clicks, orders, revenue, shares)
       select s.id, ('{products}'::uuid[])[g], g, {n} % 3, {n} * 1.25, g % 2
         from public.live_stream_sessions s, generate_series(1, 6) g where md5(s.id::text || g || '{salt}') < '5'
       on conflict do nothing""",
    f"""update public.live_stream_products
           set clicks = clicks + {{n}}, shares = shares + 1, revenue = revenue + 0.05, orders = orders + 1
        where id in {SOME.format("products", n="{n}", salt="{salt}")}""",
    f"""delete from public.live_stream_products p where id in {SOME.format("products", n="2", salt="{salt}")}
          and not exists (select from public.live_stream_orders o where o.session_product_id = p.id)""",
    """insert into public.live_stream_orders (session_id, product_id, viewer_id, quantity, amount)
       select p.session_id, p.product_id,
              (select v.id from public.live_stream_viewers v where v.session_id = p.session_id limit 1), {n}, {n} * 9.99
         from public.live_stream_products p order by md5(p.id::text || '{salt}') limit {n}""",
    f"update public.live_stream_orders set amount = amount + 0.01, quantity = quantity + 1"
    f" where id in {SOME.format('orders', n='{n}', salt='{salt}')}",
    f"delete from public.live_stream_orders where id in {SOME.format('orders', n='{n}', salt='{salt}')}",
]


class Crowd:
    """Some sessions, products and people who do random things to them."""

    def __init__(self, db, expected=EXPECTED):
        db.without_limits()
        self.db, self.world, self.expected = db, people(db), expected
        self.hosts = [self.world.influencer] + [self.world.new_influencer() for _ in range(3)]
        self.sessions = [self.world.session(by=host, max_viewers=60) for host in self.hosts]
        self.users = [self.world.new_user() for _ in range(12)]
        self.products = [self.world.new_product() for _ in range(6)]
        self.unexpected: list[str] = []
        self.done = 0

    def attempt(self, call):
        try:
            result = call()
            self.done += 1
            return result
        except (RequestError, psycopg.Error) as error:
            miscounted = any(f"live_stream_{table}_counters" in str(error) for table in ("sessions", "viewers"))
            if error.sqlstate not in self.expected or miscounted:
                self.unexpected.append(f"{error.sqlstate} {error}")

    def clients(self, seed, rounds):
        """Requests of viewers and hosts."""
        pick, world = random.Random(seed), self.world
        viewers, messages, showcased = [], [], []

        def join():
            session, who = pick.choice(self.sessions), pick.choice([*self.users, None])
            if pick.random() < 0.5:
                row = world.join(session, who)
            else:
                row = (who.api if who else world.anon).rpc("live_stream_join", session_id=session["id"])
            viewers.append((row, who))

        def with_viewer(action):
            if viewers:
                row, who = pick.choice(viewers)
                action(row, who, who.api if who else world.anonymous(row))

        def say(row, who, api):
            if who:
                kind = pick.choice(["chat", "chat", "reaction"])
                parent = pick.choice(messages)["id"] if messages and pick.random() < 0.3 else None
                session = {"id": row["session_id"]}
                messages.append(world.say(session, who, message_type=kind, parent_message_id=parent))

        def react(row, who, api):
            if who and messages:
                function = pick.choice(["live_stream_react", "live_stream_unreact"])
                api.rpc(function, message_id=pick.choice(messages)["id"], reaction=pick.choice("❤🔥"))

        def erase(row, who, api):
            if messages:
                pick.choice(self.hosts).api.update(
                    "live_stream_chat", {"is_deleted": pick.random() < 0.7}, where={"id": pick.choice(messages)["id"]}
                )

        def report(row, who, api):
            patch = {"buffering_time_seconds": pick.randrange(100), "disconnections_count": pick.randrange(5)}
            api.update("live_stream_viewers", patch, where={"id": row["id"]})

        def show(row, who, api):
            at = pick.randrange(len(self.hosts))
            showcased.append(world.product(self.sessions[at], self.hosts[at], pick.choice(self.products)))

        def sell(row, who, api):
            at = pick.randrange(len(self.hosts))
            where = {"session_id": self.sessions[at]["id"], "product_id": pick.choice(self.products)}
            if pick.random() < 0.5:
                body = {"clicks": pick.randrange(50), "orders": pick.randrange(9), "revenue": pick.randrange(900) / 100}
                self.hosts[at].api.update("live_stream_products", body, where=where)
            else:
                self.hosts[at].api.rpc("live_stream_record_order", amount=9.99, **where)

        def track(row, who, api):
            if showcased:
                function = pick.choice(["view", "click", "add_to_cart", "share"])
                api.rpc(f"live_stream_track_{function}", session_product_id=pick.choice(showcased)["id"])

        def leave(row, who, api):
            if pick.random() < 0.5:
                world.leave(row, who)
            else:
                api.rpc("live_stream_leave", viewer_id=row["id"])

        actions = [
            leave, leave, say, say, say, react, erase, report, show, sell, track,
            lambda row, who, api: api.rpc("live_stream_share", viewer_id=row["id"]),
            lambda row, who, api: api.rpc("live_stream_heartbeat", viewer_id=row["id"]),
            lambda row, who, api: api.update("live_stream_viewers", {"is_still_watching": True}, where={"id": row["id"]}),
        ]  # fmt: skip
        for _ in range(rounds):
            self.attempt(join if pick.random() < 0.3 else lambda: with_viewer(pick.choice(actions)))

    def server(self, seed, rounds):
        """Bulk statements, in transactions with savepoints, some of which are rolled back."""
        pick = random.Random(seed)
        users = "{" + ",".join(user.user_id for user in self.users) + "}"
        products = "{" + ",".join(self.products) + "}"

        def statement():
            return pick.choice(BULK).format(
                n=pick.randrange(1, 12),
                p=pick.random(),
                salt=pick.random(),
                users=users,
                products=products,
                session=pick.choice(self.sessions)["id"],
            )

        with self.db.connect(options="-c deadlock_timeout=20ms") as connection:

            def transaction():
                with connection.transaction(force_rollback=pick.random() < 0.2):
                    for _ in range(pick.randrange(1, 4)):
                        with connection.transaction(force_rollback=pick.random() < 0.2):
                            connection.execute(statement())
                            if pick.random() < 0.3:
                                connection.execute(statement())

            for _ in range(rounds):
                if pick.random() < 0.1:
                    level = pick.choice(["repeatable read", "serializable"])
                    connection.execute(f"set default_transaction_isolation = '{level}'")
                self.attempt(transaction)
                connection.execute("reset default_transaction_isolation")


def test_requests_never_wait_for_each_other_in_a_circle(db):
    crowd = Crowd(db)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: crowd.clients(SEED + n, 250), range(8)))
    assert crowd.unexpected == [] and crowd.done > 1000 and differences(db) == []


@own_db("deletes a session of which rows are everywhere")
def test_thousands_of_random_operations(db):
    """Some 1,100, or 2,700."""
    crowd = Crowd(db, EXPECTED | CONFLICTS)
    clients = [(crowd.clients, SEED + n, scale(250, 600)) for n in range(4)]
    servers = [(crowd.server, SEED + 100 + n, scale(60, 150)) for n in range(2)]
    with ThreadPoolExecutor(6) as threads:
        tasks = [threads.submit(*task) for task in clients + servers]
        # Exact at every moment, not only when all is quiet.
        while not all(task.done() for task in tasks):
            assert unaccounted(db) == []
        for task in tasks:
            task.result()
    assert crowd.unexpected == [] and crowd.done > scale(600, 1_500)
    assert differences(db) == []
    for host, session in zip(crowd.hosts, crowd.sessions):
        peak = numbers(db, session)["peak_viewers"]
        assert 0 < peak <= 60
        assert crowd.world.end(session, host)["current_viewers"] == 0
    assert differences(db) == []
    db.sql("delete from public.live_stream_sessions where id = %s", [crowd.sessions[0]["id"]])
    assert differences(db) == []


@pytest.mark.parametrize("statement", BULK, ids=range(len(BULK)))
def test_each_bulk_statement_works(plain_db, statement):
    """So that the random test cannot pass because its statements fail."""
    crowd = Crowd(plain_db)
    crowd.clients(SEED, 250)
    users = "{" + ",".join(user.user_id for user in crowd.users) + "}"
    for n in (1, 4):
        session = crowd.sessions[0]["id"]
        plain_db.sql(
            statement.format(n=n, p=0.3, salt=n, users=users, products="{" + ",".join(crowd.products) + "}", session=session)
        )
        assert differences(plain_db) == []
    assert crowd.unexpected == []


@own_db("counts all that is there")
def test_the_recount_finds_what_is_wrong(db, world):
    """The test of the test."""
    session = world.session()
    message = world.say(session, world.viewer, viewer=world.join(session, world.viewer))
    assert differences(db) == []
    db.sql("set session_replication_role = replica")
    db.sql("update public.live_stream_sessions set total_messages = 2, total_revenue = 0.01")
    db.sql("update public.live_stream_viewers set messages_sent = 0")
    db.sql("update public.live_stream_chat set replies_count = 1")
    db.sql("set session_replication_role = origin")
    found = sorted((row["what"], str(row["id"]), row["column"]) for row in differences(db))
    assert found == [
        ("message", message["id"], "replies_count"),
        ("session", session["id"], "total_messages"),
        ("session", session["id"], "total_revenue"),
        ("viewer", message["viewer_id"], "messages_sent"),
    ]


# Many rows in one statement are the same as one by one.


def test_many_rows_are_the_same_as_one_by_one(db, world):
    pick = random.Random(SEED)
    users = [world.new_user().user_id for _ in range(8)]
    pairs = [
        [world.session(live=False, max_viewers=None, by=world.new_influencer()) for _ in range(2)] for _ in range(3)
    ]
    together, apart = zip(*pairs)
    plan = []
    for n in range(200):
        left = pick.choice([None, None, "2020-01-01 00:05:07+00", "2020-01-01 00:00:30+00"])
        plan.append((pick.randrange(3), pick.choice([*users, None]), left))

    def insert(sessions, rows):
        values = ", ".join(["(%s::uuid, %s::uuid, '2020-01-01 00:00+00'::timestamptz, %s::timestamptz)"] * len(rows))
        params = [value for at, user, left in rows for value in (sessions[at]["id"], user, left)]
        query = "insert into public.live_stream_viewers (session_id, user_id, joined_at, left_at) values " + values
        return [row["id"] for row in db.sql(query + " returning id", params)]

    def same():
        assert [numbers(db, s) for s in together] == [numbers(db, s) for s in apart]
        assert differences(db) == []
        return [counts(db, s) for s in together]

    ids = insert(together, plan)
    ids_apart = [insert(apart, [row])[0] for row in plan]
    after_insert = same()
    assert all(current > 20 for current, _, _ in after_insert)

    # Some leave and others come in the same statement: the peak is what it is row by row.
    db.sql("set enable_indexscan = off; set enable_bitmapscan = off")
    flip = "update public.live_stream_viewers set is_still_watching = not is_still_watching where id = any (%s)"
    for _ in range(5):
        chosen = sorted(pick.sample(range(200), 120))
        in_order = db.sql(
            "select id from public.live_stream_viewers where id = any (%s) order by ctid", [[ids[n] for n in chosen]]
        )
        place = {id: n for n, id in enumerate(ids)}
        db.sql(flip, [[ids[n] for n in chosen]])
        for row in in_order:
            db.sql(flip, [[ids_apart[place[row["id"]]]]])
        # Whoever came back is watching since now: only the counts are compared from here on.
        assert [counts(db, s) for s in together] == [counts(db, s) for s in apart]
    assert [peak for _, peak, _ in map(lambda s: counts(db, s), together)] > [peak for _, peak, _ in after_insert]
    assert differences(db) == []

    gone = pick.sample(range(200), 90)
    db.sql("delete from public.live_stream_viewers where id = any (%s)", [[ids[n] for n in gone]])
    for n in gone:
        db.sql("delete from public.live_stream_viewers where id = %s", [ids_apart[n]])
    assert [counts(db, s) for s in together] == [counts(db, s) for s in apart]
    assert differences(db) == []


@own_db("counts all that is there")
def test_the_peak_within_one_statement(db, world):
    session = world.session()
    for _ in range(3):
        world.join(session)
    db.sql("set enable_indexscan = off; set enable_bitmapscan = off")
    # Three leave and, after them in the table, two come: never more than before. Then in the other order.
    db.sql(
        "insert into public.live_stream_viewers (session_id, left_at) select %s, now() from generate_series(1, 2)",
        [session["id"]],
    )
    flip = "update public.live_stream_viewers set is_still_watching = not is_still_watching"
    db.sql(flip)
    assert counts(db, session) == (2, 3, 5)
    db.sql(flip)
    assert counts(db, session) == (3, 5, 5)


@pytest.mark.parametrize("inserted", [True, False])
def test_the_limit_within_one_statement(db, world, inserted):
    session = world.session(max_viewers=5)
    if inserted:
        with refused("PT409", "is full", hint=True):
            world.service.insert("live_stream_viewers", [{"session_id": session["id"]}] * 6)
    else:
        body = [{"session_id": session["id"], "left_at": "2030-01-01T00:00:00Z"}] * 6
        world.service.insert("live_stream_viewers", body)
        with refused("PT409", "is full", hint=True):
            world.service.update("live_stream_viewers", {"is_still_watching": True}, where={"session_id": session["id"]})
    assert counts(db, session)[:2] == (0, 0)
    world.service.insert("live_stream_viewers", [{"session_id": session["id"]}] * 5)
    assert counts(db, session)[:2] == (5, 5)


@own_db("counts all that is there")
def test_copy_and_merge_count_too(db, world):
    session = world.session()
    with db.connect() as connection:
        with connection.cursor().copy("copy public.live_stream_viewers (session_id, is_still_watching) from stdin") as copy:
            for n in range(10):
                copy.write_row((session["id"], n < 7))
    assert counts(db, session) == (7, 7, 10)
    db.sql(
        """merge into public.live_stream_viewers v
           using (select id, row_number() over (order by id) as n from public.live_stream_viewers
                   union all select gen_random_uuid(), 11) as s on v.id = s.id
            when matched and s.n %% 2 = 0 then delete
            when matched then update set is_still_watching = false
            when not matched then insert (session_id) values (%s)""",
        [session["id"]],
    )
    assert counts(db, session)[0] == 1 and counts(db, session)[2] == 6 and differences(db) == []


@own_db("has a trigger of the app's")
def test_rows_that_are_not_stored_do_not_count(db, world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    db.sql(
        "insert into public.live_stream_viewers (id, session_id) values (%s, %s) on conflict do nothing",
        [viewer["id"], session["id"]],
    )
    db.sql(
        "insert into public.live_stream_viewers (id, session_id) values (%s, %s)"
        " on conflict (id) do update set is_still_watching = false",
        [viewer["id"], session["id"]],
    )
    assert counts(db, session) == (0, 1, 1)
    db.owner(
        "create function public.skip() returns trigger language plpgsql as 'begin return null; end';"
    )
    db.owner("create trigger zz before insert on public.live_stream_viewers for each row execute function public.skip()")
    db.sql("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
    assert counts(db, session) == (0, 1, 1) and differences(db) == []


# Different people.


def test_unique_viewers(db, world):
    session = world.session()
    users = [world.new_user().user_id for _ in range(3)]

    def insert(*ids):
        rows = [(session["id"], id) for id in ids]
        values = ", ".join(["(%s::uuid, %s::uuid)"] * len(rows))
        query = f"insert into public.live_stream_viewers (session_id, user_id) values {values} returning id"
        return [row["id"] for row in db.sql(query, [v for row in rows for v in row])]

    def unique():
        assert differences(db) == []
        return counts(db, session)[2]

    first = insert(users[0], users[0], users[0], None, None)
    assert unique() == 3
    insert(users[0], users[1])
    assert unique() == 4
    db.sql("update public.live_stream_viewers set user_id = %s where id = %s", [users[2], first[0]])
    assert unique() == 5
    db.sql("update public.live_stream_viewers set user_id = null where id = %s", [first[3]])
    db.sql("update public.live_stream_viewers set user_id = %s where id = any (%s)", [users[0], [first[0], first[3]]])
    assert unique() == 3
    db.sql("update public.live_stream_viewers set user_id = null where user_id = %s", [users[0]])
    assert unique() == 7
    db.sql("delete from public.live_stream_viewers where user_id = %s", [users[1]])
    assert unique() == 6
    db.sql("delete from public.live_stream_viewers")
    assert unique() == 0


@pytest.mark.parametrize("statement", [
    "delete from public.live_stream_viewers where id = %s",
    "update public.live_stream_viewers set user_id = null where id = %s",
])  # fmt: skip
def test_the_last_rows_of_a_person_go_at_once(db, world, statement):
    session = world.session()
    first, second = world.join(session, world.viewer), world.join(session, world.viewer)
    with db.connect() as one, db.connect() as other, ThreadPoolExecutor(1) as thread:
        with one.transaction():
            one.execute(statement, [first["id"]])
            waiting = thread.submit(other.execute, statement, [second["id"]])
            blocked = "select exists (select from pg_locks where pid = %s and not granted)"
            while not db.value(blocked, [other.info.backend_pid]):
                assert not waiting.done()
        waiting.result()
    assert counts(db, session)[2] == (0 if "delete" in statement else 2) and differences(db) == []


def test_a_user_who_is_deleted(supabase_db):
    world = people(supabase_db)
    session = world.session()
    for _ in range(3):
        viewer = world.join(session, world.viewer)
        world.say(session, world.viewer, viewer=viewer)
    world.join(session)
    assert counts(supabase_db, session) == (4, 4, 2)
    supabase_db.sql("delete from auth.users where id = %s", [world.viewer.user_id])
    # Nobody can tell any more that the three rows were one person.
    assert counts(supabase_db, session) == (4, 4, 4)
    assert numbers(supabase_db, session)["total_messages"] == 3 and differences(supabase_db) == []


@own_db("counts all that is there")
def test_a_viewer_moved_to_another_session(db, world):
    """By the server only: with its watch time, its reports and whether it is still there."""
    first, second = world.session(), world.session(by=world.new_influencer(), max_viewers=1)
    stays, moves = world.join(first, world.viewer), world.join(first, world.viewer)
    world.viewer.api.rpc("live_stream_report_quality", viewer_id=moves["id"], buffering_time_seconds=9)
    move = "update public.live_stream_viewers set session_id = %s where id = %s"
    db.sql(move, [second["id"], moves["id"]])
    assert counts(db, first) == (1, 1, 1) and counts(db, second) == (1, 1, 1)
    assert numbers(db, second)["buffering_events"] == 1 and numbers(db, first)["buffering_events"] == 0
    with pytest.raises(psycopg.DatabaseError) as error:
        db.sql(move, [second["id"], stays["id"]])
    assert error.value.sqlstate == "PT409"
    world.service.update("live_stream_sessions", {"max_viewers": 2}, where={"id": second["id"]})
    db.sql("update public.live_stream_viewers set session_id = case session_id when %s then %s::uuid else %s::uuid end",
           [first["id"], second["id"], first["id"]])  # fmt: skip
    assert counts(db, first)[::2] == counts(db, second)[::2] == (1, 1) and differences(db) == []
    with pytest.raises(psycopg.errors.NotNullViolation):
        db.sql(move, [None, stays["id"]])
    ended = world.end(first)
    with pytest.raises(psycopg.DatabaseError) as error:
        db.sql("update public.live_stream_viewers set session_id = %s where is_still_watching", [ended["id"]])
    assert error.value.sqlstate == "PT409" and differences(db) == []


# Transactions.


@own_db("counts all that is there")
def test_one_who_joins_and_reads_sees_it(db, world):
    session = world.session()
    with db.connect() as connection, connection.transaction(force_rollback=True):
        for expected in (1, 2):
            connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
            row = connection.execute("select current_viewers from public.live_stream_sessions").fetchone()
            assert row["current_viewers"] == expected
            assert counts(db, session) == (0, 0, 0)
    assert counts(db, session) == (0, 0, 0)


def test_what_is_rolled_back_never_was(db, world):
    session = world.session(max_viewers=2)
    insert = "insert into public.live_stream_viewers (session_id) values (%s)"
    with db.connect() as connection:
        with connection.transaction():
            connection.execute(insert, [session["id"]])
            with connection.transaction(force_rollback=True):
                connection.execute(insert, [session["id"]])
            with pytest.raises(psycopg.DatabaseError) as error, connection.transaction():
                connection.execute(insert, [session["id"]])
                connection.execute(insert, [session["id"]])
            assert error.value.sqlstate == "PT409"
            connection.execute(insert, [session["id"]])
        assert counts(db, session) == (2, 2, 2)
        with pytest.raises(psycopg.DatabaseError), connection.transaction():
            connection.execute("update public.live_stream_sessions set status = 'ended'")
            connection.execute(insert, [session["id"]])
        # Caught in a function, the refusal leaves what was there before.
        connection.execute(
            f"""do $$ begin
                  delete from public.live_stream_viewers
                   where id = (select id from public.live_stream_viewers limit 1);
                  begin
                    insert into public.live_stream_viewers (session_id)
                    select '{session["id"]}' from generate_series(1, 2);
                  exception when sqlstate 'PT409' then
                    insert into public.live_stream_viewers (session_id) values ('{session["id"]}');
                  end;
                end $$"""
        )
    assert counts(db, session) == (2, 2, 2) and differences(db) == []


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_stricter_isolation(db, world, level):
    session = world.session()
    insert = "insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)"
    params = [session["id"], world.viewer.user_id]
    with db.connect() as connection:
        connection.execute(f"set default_transaction_isolation = '{level}'")
        with connection.transaction():
            connection.execute(insert, params)
            connection.execute(insert, params)
        assert counts(db, session) == (2, 2, 1)
        with pytest.raises(psycopg.errors.SerializationFailure), connection.transaction():
            connection.execute("select count(*) from public.live_stream_viewers")
            world.join(session, world.viewer)
            connection.execute(insert, params)
        with connection.transaction():
            connection.execute("update public.live_stream_sessions set status = 'ended'")
    assert counts(db, session) == (0, 3, 1) and differences(db) == []


def test_prepared_transactions(fresh_server):
    fresh_server.run("postgres", "alter system set max_prepared_transactions = 5")
    fresh_server.crash()
    fresh_server.make_templates()
    with fresh_server.database("plain") as db:
        world = people(db)
        session = world.session(stream_key="first")
        with db.connect() as connection:
            for name, verdict in (("a", "commit"), ("b", "rollback")):
                connection.execute("begin")
                for _ in range(2):
                    connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
                connection.execute("update public.live_stream_sessions set stream_key = %s", [name])
                connection.execute(f"prepare transaction '{name}'")
                # The connection goes on with other things meanwhile.
                assert counts(db, session)[0] == (0 if name == "a" else 2)
                other = world.session(by=world.new_influencer())
                connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [other["id"]])
                connection.execute(f"{verdict} prepared '{name}'")
                assert counts(db, other) == (1, 1, 1)
        assert counts(db, session) == (2, 2, 2) and differences(db) == []
        (secret,) = world.influencer.api.rpc("live_stream_stream_credentials", session_id=session["id"])
        assert secret["stream_key"] == "a"


# At the edges of numbers.


@pytest.mark.parametrize("column, largest, total", [
    ("clicks", 2**31 - 1, "total_clicks"), ("orders", 2**31 - 1, "total_orders"),
    ("shares", 2**31 - 1, "total_shares"), ("revenue", 9999999999.99, "total_revenue"),
])  # fmt: skip
def test_a_number_too_large_is_refused(db, world, column, largest, total):
    session = world.session()

    def product(**columns):
        body = {"session_id": session["id"], "product_id": world.new_product()} | columns
        return world.service.insert("live_stream_products", body)

    world.join(session, world.viewer)
    product(**{column: largest})
    product()
    before = numbers(db, session)
    assert float(before[total]) == largest
    assert float(before["conversion_rate"]) == (999.99 if column == "orders" else 0)
    with refused("22003", f"a number of session {session['id']} would be too large", hint=True):
        product(**{column: 1})
    with refused("22003", "would be too large", hint=True):
        world.service.update("live_stream_products", {column: 1}, where={f"{column} lt": 1})
    assert numbers(db, session) == before and differences(db) == []


# What an app's own triggers do inside of an update by the engine.

OWN_TRIGGER = """
create function public.app_trigger() returns trigger language plpgsql as $$
begin
  {body}
  return new;
end $$;
create trigger app_trigger {when} on public.{table} for each row execute function public.app_trigger();
"""


@own_db("alters the catalog")
@pytest.mark.parametrize("table, when", [
    ("live_stream_sessions", "before update"), ("live_stream_sessions", "after update"),
    ("live_stream_viewers", "before update"), ("live_stream_chat", "after update"),
])  # fmt: skip
def test_an_error_of_the_apps_own_arrives_unchanged(db, world, table, when):
    session = world.session()
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, viewer=viewer)
    before = numbers(db, session)
    body = "raise sqlstate 'PT418' using message = 'I am a teapot', detail = 'Short and stout.', hint = 'Tip me over.';"
    db.owner(OWN_TRIGGER.format(table=table, when=when, body=body))
    calls = {
        "live_stream_sessions": [
            lambda: world.join(session),
            lambda: world.anon.rpc("live_stream_join", session_id=session["id"]),
            lambda: world.viewer.api.rpc("live_stream_share", viewer_id=viewer["id"]),
            lambda: world.product(session),
            lambda: world.say(session, world.viewer),
        ],
        "live_stream_viewers": [
            lambda: world.say(session, world.viewer, viewer=viewer),
            lambda: world.viewer.api.rpc("live_stream_share", viewer_id=viewer["id"]),
            lambda: world.end(session),
        ],
        "live_stream_chat": [lambda: world.say(session, world.viewer, parent_message_id=message["id"])],
    }
    for call in calls[table]:
        with pytest.raises(RequestError) as error:
            call()
        error = error.value
        assert (error.status, error.sqlstate, error.message) == (418, "PT418", "I am a teapot")
        assert (error.detail, error.hint) == ("Short and stout.", "Tip me over.")
    # One of PostgreSQL's own, right afterwards on the same connections, is not coloured by it.
    db.owner(f"drop trigger app_trigger on public.{table}")
    with refused("23514", "title"):
        world.set_session(session, title="")
    assert numbers(db, session) == before
    world.join(session)
    assert differences(db) == []


@own_db("alters the catalog")
def test_an_app_may_catch_its_error_and_go_on(db, world):
    session = world.session()
    body = "if new.current_viewers = 2 then raise sqlstate 'PT418'; end if;"
    db.owner(OWN_TRIGGER.format(table="live_stream_sessions", when="after update", body=body))
    db.sql(
        f"""do $$ begin
              insert into public.live_stream_viewers (session_id) values ('{session["id"]}');
              begin
                insert into public.live_stream_viewers (session_id) values ('{session["id"]}');
              exception when sqlstate 'PT418' then null;
              end;
              insert into public.live_stream_chat (session_id, message) values ('{session["id"]}', 'goes on');
              update public.live_stream_sessions set total_messages = 7;
            end $$"""
    )
    assert counts(db, session) == (1, 1, 1)
    assert numbers(db, session)["total_messages"] == 1 and differences(db) == []


@own_db("alters the catalog")
def test_what_an_apps_trigger_writes_is_guarded(db, world):
    """It runs inside of the engine's update, and has none of the engine's rights."""
    session = world.session()
    body = """
      if new.current_viewers > old.current_viewers then
        update public.live_stream_sessions
           set room_id = 'seen by the app', total_clicks = 99, stream_key = 'sk-app' where id = new.id;
      end if;
      if new.current_viewers = 2 then
        update public.live_stream_sessions set status = 'scheduled' where id = new.id;
      end if;"""
    db.owner(OWN_TRIGGER.format(table="live_stream_sessions", when="after update", body=body))
    world.join(session)
    row = world.read(session)
    assert (row["room_id"], row["total_clicks"], row["stream_key"]) == ("seen by the app", 0, None)
    with refused("23514", "is live and cannot become scheduled"):
        world.join(session)
    assert counts(db, session) == (1, 1, 1) and differences(db) == []


@own_db("alters the catalog")
def test_an_apps_trigger_may_write_elsewhere(db, world):
    session = world.session()
    body = """insert into public.live_stream_chat (session_id, message, message_type)
              values (new.session_id, 'somebody came', 'system'), (new.session_id, 'hello', 'chat');"""
    db.owner(OWN_TRIGGER.format(table="live_stream_viewers", when="after insert", body=body))
    # As the app's owner would have it: its trigger may write in the chat.
    db.owner("alter function public.app_trigger() security definer")
    world.join(session, world.viewer)
    world.service.insert("live_stream_viewers", [{"session_id": session["id"]}] * 3)
    assert numbers(db, session)["total_messages"] == 4 and differences(db) == []


@own_db("alters a table")
def test_columns_of_the_apps_own(db, world):
    for table in ("sessions", "viewers", "chat", "products", "orders", "chat_reactions"):
        db.owner(f"alter table public.live_stream_{table} add column gone text, add column extra int default 1")
        db.owner(f"alter table public.live_stream_{table} drop column gone")
    crowd = Crowd(db)
    crowd.clients(SEED, 300)
    assert crowd.unexpected == [] and crowd.done > 150 and differences(db) == []
    for table in ("sessions", "viewers", "chat", "products", "orders", "chat_reactions"):
        db.owner(f"alter table public.live_stream_{table} drop column extra")
    # PostgreSQL keeps the row type of a function in the plans that a connection has prepared.
    db.close()
    crowd.clients(SEED + 1, 300)
    assert crowd.unexpected == [] and differences(db) == []


# Tables that are emptied.

TRUNCATIONS = (
    "live_stream_chat_reactions",
    "live_stream_orders",
    "live_stream_chat cascade",
    "live_stream_products cascade",
    "live_stream_viewers cascade",
    "live_stream_chat, live_stream_chat_reactions, live_stream_orders",
    "live_stream_heartbeats",
    "live_stream_sessions cascade",
)


@own_db("truncates")
def test_truncate(db):
    """As if each row had been deleted: also by the server, and undone by a rollback."""
    crowd = Crowd(db)
    crowd.clients(SEED, 700)
    with db.connect() as connection:
        for n, statement in enumerate(BULK):
            if not statement.startswith(("delete", "update")):
                statement = statement.format(
                    n=3, p=0.3, salt=n, users="{" + ",".join(u.user_id for u in crowd.users) + "}",
                    products="{" + ",".join(crowd.products) + "}", session="",
                )  # fmt: skip
                connection.execute(statement)
    assert crowd.unexpected == [] and differences(db) == []
    tables = ("viewers", "chat", "chat_reactions", "products", "orders")
    assert all(db.value(f"select count(*) > 3 from public.live_stream_{table}") for table in tables)
    before = [numbers(db, session) for session in crowd.sessions]
    for what in TRUNCATIONS:
        query = ", ".join("public." + table.strip() for table in what.split(","))
        with db.connect() as connection, connection.transaction(force_rollback=True):
            # A server may empty what it writes; sessions have more behind them.
            connection.execute("set role app_owner" if "sessions" in what else "set role service_role")
            connection.execute(f"truncate {query}")
            assert connection.execute(DIFFERENCES).fetchall() == [], what
        assert [numbers(db, session) for session in crowd.sessions] == before
    for what in TRUNCATIONS[:-1]:
        query = ", ".join("public." + table.strip() for table in what.split(","))
        db.owner(f"truncate {query}")
        assert differences(db) == [], what
    assert all(set(numbers(db, session).values()) == {0} for session in crowd.sessions)


@own_db("truncates")
def test_truncating_orders_leaves_what_the_host_counted(db, world):
    session = world.session()
    product = world.product(session, orders=5, revenue=50)
    world.service.update("live_stream_products", {"sold_quantity": 7}, where={"id": product["id"]}, one=True)
    world.join(session, world.viewer)
    for _ in range(2):
        world.influencer.api.rpc(
            "live_stream_record_order", session_id=session["id"], product_id=product["product_id"],
            amount=19.99, quantity=3, user_id=world.viewer.user_id,
        )  # fmt: skip
    assert float(numbers(db, session)["total_revenue"]) == 89.98
    db.owner("truncate public.live_stream_orders")
    (row,) = db.sql("select orders, revenue, sold_quantity from public.live_stream_products")
    assert (row["orders"], float(row["revenue"]), row["sold_quantity"]) == (5, 50, 7)
    assert float(numbers(db, session)["total_revenue"]) == 50 and differences(db) == []


# A large session.


@own_db("counts all that is there")
def test_the_summary_of_100_000_viewers(plain_db, capsys):
    """Of 10,000 in the short form."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    size = scale(10_000, 100_000)
    db.sql(
        """insert into public.live_stream_viewers (session_id, user_id, joined_at, left_at)
           select %s, case when g %% 4 > 0 then md5((g %% %s)::text)::uuid end,
                  now() - interval '1 hour',
                  case when g %% 5 > 0 then now() - make_interval(secs => g %% 3600) end
             from generate_series(1, %s) g""",
        [session["id"], size * 2 // 5, size],
    )
    truth = db.sql(
        """select count(distinct coalesce(user_id, id)) as people, sum(watch_duration_seconds) as seconds,
                  count(*) filter (where is_still_watching) as watching
             from public.live_stream_viewers"""
    )[0]
    began = time.perf_counter()
    row = world.influencer.api.select("session_analytics_summary", where={"session_id": session["id"]}, one=True)
    took = time.perf_counter() - began
    with capsys.disabled():
        print(f"\nsession_analytics_summary of {size:,} viewers: {took * 1000:.1f} ms")
    assert (row["total_unique_viewers"], row["current_viewers"]) == (truth["people"], truth["watching"]) == (size * 55 // 100, size // 5)
    assert row["total_watch_time"] == truth["seconds"] // 60
    assert row["avg_watch_time"] == pytest.approx(float(truth["seconds"]) / 60 / truth["people"], abs=0.0051)
    assert differences(db) == []
    began = time.perf_counter()
    ended = world.end(session)
    with capsys.disabled():
        print(f"ending it with {size // 5:,} viewers: {time.perf_counter() - began:.1f} s")
    assert ended["current_viewers"] == 0 and differences(db) == []
    db.sql("delete from public.live_stream_sessions")
    assert db.value("select count(*) from public.live_stream_viewers") == 0
