"""The catalog is lost in every way: the server starts by itself, says so, and has everything that was acknowledged."""

import shutil
import time

import pytest
import requests
from bellrock_server import eventually
from mixed_load import check_exactly_once, found_counts, start_senders, stop_senders, wait_for_replay

CONFIG = "bellrock: { flush_interval: 1s }"


def zero(path):
    path.write_bytes(b"\0" * path.stat().st_size)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def remove(path):
    for each in path.parent.glob(path.name + "*"):
        each.unlink()


def loaded(make_server):
    """A server that has flushed, merged and cut its journal, and senders with what it acknowledged."""
    server = make_server(config=CONFIG).start()
    senders = start_senders(server)
    copy = server.data / "catalog-copy.db"
    eventually(copy.exists)
    first = copy.stat().st_mtime_ns
    eventually(lambda: all(len(sender.acknowledged) > 100 for sender in senders) and copy.stat().st_mtime_ns > first)
    time.sleep(5)  # load, so that files are merged and later ones are not in the copy
    stop_senders(senders)
    return server, senders


def check_told(server):
    status = server.get("/bellrock/v1/status")["catalog"]
    assert status["rescued"], status
    assert "CatalogRescued" in server.log()
    metrics = requests.get(f"{server.url}/metrics", timeout=5).text
    assert "bellrock_catalog_rescued 1" in metrics
    return status


@pytest.mark.parametrize("damage", [zero, halve, empty, remove])
@pytest.mark.parametrize("is_clean", [True, False], ids=["stopped", "killed"])
def test_the_copy_takes_its_place(make_server, damage, is_clean):
    server, senders = loaded(make_server)
    server.stop() if is_clean else server.kill()
    catalog = server.data / "catalog.db"
    if not is_clean and damage is not remove:
        # What the write-ahead log still has would mend the damage.
        (server.data / "catalog.db-wal").unlink(missing_ok=True)
    damage(catalog)
    server.start()
    total = check_exactly_once(server, senders, 100)
    assert total and check_told(server)["is_whole"]
    server.stop()
    server.start()
    check_exactly_once(server, senders, 100)
    assert server.get("/bellrock/v1/status")["catalog"] == {"is_whole": True, "rescued": []}


def test_without_a_copy_the_files_speak_for_themselves(make_server):
    server, senders = loaded(make_server)
    server.stop()
    remove(server.data / "catalog.db")
    remove(server.data / "catalog-copy.db")
    server.start()
    wait_for_replay(server)
    found = found_counts(server)
    for sender in senders:
        assert sender.acknowledged <= found[sender.name].keys(), f"{sender.name}: lost {len(sender.acknowledged - found[sender.name].keys())}"
    doubled = {signal: sum(count != 1 for count in counts.values()) for signal, counts in found.items()}
    assert not any(doubled.values()), doubled
    assert not check_told(server)["is_whole"]


def test_a_catalog_from_an_old_backup(make_server):
    server = make_server(config=CONFIG).start()
    server.stop()
    backup = server.folder / "backup.db"
    shutil.copy(server.data / "catalog.db", backup)
    server.start()
    senders = start_senders(server)
    eventually(lambda: server.get("/bellrock/v1/status")["storage"]["files"] > 5)
    stop_senders(senders)
    server.stop()
    shutil.copy(backup, server.data / "catalog.db")
    server.start()
    check_exactly_once(server, senders, 10)
