# PG_CONFIG=/path/to/pg_config chooses another PostgreSQL (15, 17, 18) than the newest that is installed.
export PG_CONFIG

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' Makefile | expand -t 13

run: build  ## start a private PostgreSQL under target/run and play a live stream in it; leaves the server up
	@scripts/demo

stop:  ## stop the server that `make run` left up
	@scripts/server run stop

test: build  ## the test suite in its short form; TESTS='tests/chat_test.py -k react' runs a part of it
	@scripts/test $(TESTS)

test-long: build  ## the same with all that `make test` leaves out: every size, and both shapes of database
	@TEST_LONG=1 scripts/test $(or $(TESTS),tests)

test-faults: build  ## ten thousand random alterations by the tables' owner: an hour or two; FAULTS=500 SEED=7 for fewer, and others
	@OWNER_FUZZ_ROUNDS=$(or $(FAULTS),10000) OWNER_FUZZ_SEED=$(or $(SEED),1) scripts/test tests/owner_fuzz_test.py -k whatever

bench:  ## measure the release against bare tables and PL/pgSQL triggers; writes BENCHMARK.md, in ten minutes or less
	@scripts/setup bench
	@scripts/bench

lint: setup  ## formatting and clippy, warnings being errors
	@scripts/lint

build: setup  ## compile and lay out for the servers under target/
	@scripts/build

setup:  ## install what building and testing need and the machine lacks
	@scripts/setup

install: setup  ## build the release and install it into the server of PG_CONFIG
	@scripts/build install

clean:  ## stop the servers under target/ and delete everything there
	@scripts/clean

.PHONY: help run stop test test-long test-faults bench lint build setup install clean
