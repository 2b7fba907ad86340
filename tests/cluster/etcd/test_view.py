"""The view of one watcher, against a store whose watch breaks, lags and is compacted."""

from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.etcd.messages import Change, News
from laminar.cluster.etcd.view import EtcdView

CELLS = [("a", "x"), ("a", "y"), ("b", "x")]


class Store:
    """etcd, as far as a watcher sees it."""

    def __init__(self):
        self.identity = 1
        self.log = []
        self.compacted = 0

    @property
    def revision(self):
        return 1 + len(self.log)

    def change(self, cell, value):
        self.log.append(Change(cell, value, self.revision + 1))
        return self.log[-1]

    def state(self):
        state = {change.cell: change.value for change in self.log}
        return {cell: value for cell, value in state.items() if value is not None}

    def all_keys(self):
        return [Change(cell, value, self.revision) for cell, value in self.state().items()]


class Watched:
    """A view, what it told, and the watch that it is on."""

    def __init__(self, store):
        self.store = store
        self.told = {}
        self.view = EtcdView(self._tell)
        self.position = None
        """The revision up to which the present watch has delivered; ``None`` without a watch."""

    def _tell(self, node, key, value):
        if value is None:
            self.told.pop((node, key), None)
        else:
            self.told[node, key] = value

    def connect(self):
        if self.view.revision is None:
            self.view.begin()
            self.view.read(self.store.identity, self.store.revision, self.store.all_keys())
        revision = self.view.revision
        self.position = revision
        self._hear(created=True)
        if revision < self.store.compacted:
            self._hear(ended=True)
        if self.view.revision is None:
            self.position = None

    def deliver(self, count, partial=False):
        """The next ``count`` changes, in one message."""
        due = [change for change in self.store.log if change.revision > self.position][:count]
        self._hear(changes=tuple(due), partial=partial)
        if due:
            self.position = due[-1].revision

    def _hear(self, created=False, ended=False, partial=False, changes=()):
        # As etcd does: the header is ahead of the changes.
        revision = changes[-1].revision if changes else self.store.revision
        if not created and not changes and self.position != self.store.revision:
            revision = self.position
        self.view.watched(
            News(self.store.identity, revision, created, ended, partial, changes, strange=0)
        )


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["other", "own"]),
            st.sampled_from(CELLS),
            st.sampled_from([None, "1", "2"]),
        ),
        st.tuples(st.just("deliver"), st.integers(0, 3), st.booleans()),
        st.tuples(st.sampled_from(["break", "connect", "compact", "lose", "empty"])),
    ),
    max_size=60,
)


@given(STEPS)
def test_however_the_watch_breaks_the_state_is_told_in_the_end(steps):
    store = Store()
    watched = Watched(store)
    for what, *rest in steps:
        if what in ("own", "other"):
            change = store.change(*rest)
            if what == "own":
                watched.view.own(store.identity, change)
        elif what == "deliver" and watched.position is not None:
            watched.deliver(*rest)
        elif what == "break":
            watched.position = None
        elif what == "connect":
            watched.connect()
        elif what == "compact":
            store.compacted = store.revision
        elif what == "lose":
            watched.view.lose()
            watched.position = None
        elif what == "empty":
            store.log, store.compacted = [], 0
            watched.position = None
    watched.position = None
    while watched.position is None:
        watched.connect()
    watched.deliver(1000)
    assert watched.told == store.state()
    assert watched.view._known == store.state().keys()
    assert not watched.view._ahead


def test_own_changes_are_told_at_once_and_never_taken_back():
    store = Store()
    watched = Watched(store)
    watched.connect()
    store.change(("a", "x"), "old")
    watched.view.own(1, store.change(("a", "x"), "new"))
    assert watched.told == {("a", "x"): "new"}
    watched.deliver(1)
    assert watched.told == {("a", "x"): "new"}
    watched.view.own(1, store.change(("a", "x"), None))
    watched.deliver(1)
    assert watched.told == {}
    watched.deliver(1)
    assert not watched.view._ahead


def test_an_own_change_survives_a_reading_that_came_before_it():
    store = Store()
    watched = Watched(store)
    watched.view.begin()
    before = (store.revision, store.all_keys())
    watched.view.own(1, store.change(("a", "x"), "1"))
    watched.view.read(1, *before)
    assert watched.told == {("a", "x"): "1"}


def test_a_store_that_went_back_takes_own_changes_with_it():
    store = Store()
    watched = Watched(store)
    watched.view.own(1, store.change(("a", "x"), "1"))
    store.log = []
    watched.connect()
    assert watched.told == {}


def test_a_watch_that_ends_or_begins_too_late_has_everything_read_anew():
    store = Store()
    watched = Watched(store)
    store.change(("a", "x"), "1")
    watched.connect()
    assert watched.view.revision == 2
    watched.view.watched(News(1, 2, True, False, False, (), 0))
    assert watched.view.revision == 2
    watched.view.watched(News(1, 1, True, False, False, (), 0))
    assert watched.view.revision is None
    watched.connect()
    watched.view.watched(News(1, 2, False, True, False, (), 0))
    assert watched.view.revision is None


def test_half_of_a_message_is_told_again():
    store = Store()
    watched = Watched(store)
    watched.connect()
    for number in range(3):
        store.change(("a", "x"), str(number))
    watched.deliver(2, partial=True)
    assert watched.told == {("a", "x"): "1"}
    assert watched.view.revision == 1
    watched.connect()
    watched.deliver(3)
    assert watched.told == {("a", "x"): "2"}
    assert watched.view.revision == 4


def test_a_store_with_another_identity_is_read_anew():
    store = Store()
    watched = Watched(store)
    store.change(("a", "x"), "1")
    watched.connect()
    store.identity, store.log = 2, []
    watched.view.own(2, store.change(("a", "y"), "1"))  # not believed yet
    assert watched.told == {("a", "x"): "1"}
    watched.connect()
    assert watched.view.revision is None
    watched.connect()
    assert watched.told == {("a", "y"): "1"}
