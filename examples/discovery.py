"""A peer restarts on another port and is found again, because it publishes where it is.

Every receiver with a ``kv`` writes its address there, and a sender looks the address up each
time it dials. Nobody is told an address by hand.
"""

from __future__ import annotations

import anyio
import pyarrow as pa

from laminar import Data, InMemoryKv, PeerRestartedError, ShuffleReceiver, ShuffleSender


def greeting(text: str) -> Data:
    """One row."""
    return Data(pa.record_batch({"text": [text]}))


async def show_next(receiver: ShuffleReceiver) -> None:
    """Receive one batch and print it."""
    peer, message = await receiver.recv()
    if isinstance(message, Data):
        print(f"  bob got {message.batch['text'][0].as_py()!r} from {peer}")


async def main() -> None:
    """Lose a peer, hear of it, and go on."""
    kvs = InMemoryKv.cluster(["alice", "bob"])
    async with ShuffleSender("alice", kv=kvs["alice"]) as sender:
        async with ShuffleReceiver.bind("bob", kv=kvs["bob"]) as receiver:
            print("bob is up")
            await sender.send_to("bob", greeting("hello"))
            await show_next(receiver)
            first_addr = receiver.local_addr
            await sender.flush()

        async with ShuffleReceiver.bind("bob", kv=kvs["bob"]) as receiver:
            same = receiver.local_addr == first_addr
            print(f"bob restarted on {'the same' if same else 'another'} port")
            try:
                await sender.send_to("bob", greeting("are you there?"))
                await sender.flush()
            except PeerRestartedError as error:
                # Told once, so that a job can go back to its last checkpoint.
                print(f"alice hears: {error}")
            await sender.send_to("bob", greeting("hello again"))
            await show_next(receiver)
            await sender.flush()


if __name__ == "__main__":
    anyio.run(main)
