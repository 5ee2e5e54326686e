"""What blkid's low-level probe and wipefs say of a disk, asked side by side. Both also see partition tables.

Neither proves a blank disk: blkid exits 2 both for one and for a disk that it could not read.
"""

from __future__ import annotations

import os

from protokube.host.process import Running, tool

_BLKID_NOTHING = 2
_BLKID_AMBIVALENT = 8


class Signatures:
    """The two answers. As text, what they found, for people."""

    def __init__(self, node: str) -> None:
        blkid = [tool("blkid"), "-p", "-o", "export", node]
        wipefs = [tool("wipefs"), "--noheadings", "--output", "TYPE,OFFSET", node]
        self._running = Running(blkid), Running(wipefs)
        self._blkid_code = self._wipefs_code = -1
        self._blkid = self._wipefs = ""
        self._waited = False

    def wait(self) -> None:
        """Wait until both have ended."""
        if self._waited:
            return
        self._waited = True
        blkid, wipefs = [running.result() for running in self._running]
        self._blkid_code, self._blkid = blkid[0], _text(blkid[1] + blkid[2])
        self._wipefs_code, self._wipefs = wipefs[0], _text(wipefs[1] + wipefs[2])

    def __str__(self) -> str:
        self.wait()
        blkid = ", ".join(line for line in self._blkid.splitlines() if not line.startswith("DEVNAME=")) or "nothing"
        wipefs = ", ".join(" at ".join(line.split()) for line in self._wipefs.splitlines()) or "nothing"
        ambivalent = " (ambivalent)" if self._blkid_code == _BLKID_AMBIVALENT else ""
        codes = f"exit codes {self._blkid_code} and {self._wipefs_code}"
        return f"blkid finds {blkid}{ambivalent}, wipefs {wipefs} ({codes})"

    @property
    def nothing(self) -> bool:
        """Whether both find nothing."""
        self.wait()
        codes = self._blkid_code == _BLKID_NOTHING and self._wipefs_code == os.EX_OK
        return codes and not self._blkid and not self._wipefs

    def only_ext4(self, uuid: str) -> bool:
        """Whether both find this ext4 and nothing else."""
        self.wait()
        found = dict(line.partition("=")[::2] for line in self._blkid.splitlines())
        types = {line.split()[0] for line in self._wipefs.splitlines() if line.strip()}
        sound = self._blkid_code == self._wipefs_code == os.EX_OK and types == {"ext4"}
        return sound and found.get("TYPE") == "ext4" and found.get("UUID") == uuid and "PTTYPE" not in found


def _text(output: bytes) -> str:
    return output.decode(errors="backslashreplace").strip()
