"""Some sessions, and people who do random things to them; and a session's numbers by name."""

from __future__ import annotations

import random

import psycopg

from people import people
from postgrest import RequestError
from recount import rest

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
