"""Small file systems of their own for tests: one whose power can be cut, one that can be filled."""

import errno
import fcntl
import os
import shutil
import struct
import subprocess

import pytest

# EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: nothing more reaches the device, the log's unwritten part included.
SHUTDOWN, WITHOUT_LOG_FLUSH = 0x8004587D, 2


class Disk:
    """ext4 in a file, mounted over a loop device, which frees itself with the mount. No block is reserved for root."""

    def __init__(self, folder, megabytes):
        self.image, self.point, self.is_mounted = folder / "disk.ext4", folder / "disk", False
        if os.geteuid() != 0:
            pytest.skip("needs root to mount a file system")
        if not shutil.which("mkfs.ext4") or not os.path.exists("/dev/loop-control"):
            pytest.skip("needs mkfs.ext4 and loop devices")
        with open(self.image, "wb") as image:
            image.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image], check=True)
        self.point.mkdir()
        if not self.mount():
            pytest.skip("this machine does not let root mount a loop device")

    def mount(self):
        self.is_mounted = subprocess.run(["mount", "-o", "loop", self.image, self.point], capture_output=True).returncode == 0
        return self.is_mounted

    def unmount(self):
        if self.is_mounted and subprocess.run(["umount", self.point], capture_output=True).returncode != 0:
            subprocess.run(["umount", "-l", self.point], check=True)
        self.is_mounted = False

    def cut_power(self):
        folder = os.open(self.point, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", WITHOUT_LOG_FLUSH))
        finally:
            os.close(folder)

    def free_bytes(self):
        status = os.statvfs(self.point)
        return status.f_bavail * status.f_frsize

    def fill(self, leave=0):
        """Takes space with a file beside the data until so much is left; what is left is less than a block for 0."""
        filler = os.open(self.point / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            size = os.fstat(filler).st_size
            # Large pieces first; what the file system needs for itself, the small ones find out.
            for piece in (64 << 20, 1 << 20, 64 << 10, 4 << 10):
                while self.free_bytes() > leave:
                    try:
                        os.posix_fallocate(filler, size, min(piece, self.free_bytes() - leave))
                    except OSError as error:
                        assert error.errno == errno.ENOSPC, error
                        break
                    size = os.fstat(filler).st_size
        finally:
            os.close(filler)

    def free(self):
        os.remove(self.point / "filler")
