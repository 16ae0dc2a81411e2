"""The planted incident: one account is guessed, entered from abroad, and its files are taken."""

from emulator.directory_records import sign_in_failed_with, signed_in
from emulator.draw import Draw
from emulator.mail_records import mail_items_accessed, new_forwarding_rule
from emulator.scene import APPS, Maker, Record, Scene, Session
from emulator.site_records import file_record, sharing_record
from emulator.world import World

ATTACKER_IP = "192.0.2.66"
FULL_LENGTH = 64
LENGTH_S = 1_500  # all of it inside 25 minutes


def incident_session(draw: Draw, world: World) -> Session:
    """The intruder: the person's account, but neither their address nor their device."""
    victim, stranger = world.users[9], world.users[-1].devices[1]
    return Session(victim, stranger, ATTACKER_IP, draw.guid(), draw.token(22), APPS[0], 0)


def incident_steps(length: int) -> list[Maker]:
    """What the intruder does, in order; `length` steps, most of them downloads."""
    fails = max(2, length // 5)
    reads = length // 10
    downloads = length - fails - reads - 3
    parts: tuple[tuple[Maker, int], ...] = (
        (_wrong_password, fails),
        (signed_in, 1),
        (mail_items_accessed, reads),
        (new_forwarding_rule, 1),
        (_download, downloads),
        (_link, 1),
    )
    return [maker for maker, times in parts for _ in range(times)]


def _wrong_password(scene: Scene) -> Record:
    return sign_in_failed_with(scene, "50126", "InvalidUserNameOrPassword")


def _download(scene: Scene) -> Record:
    site = scene.world.sites[0]
    return file_record(scene, site, scene.draw.pick(site.files), "FileDownloaded")


def _link(scene: Scene) -> Record:
    return sharing_record(scene, "AnonymousLinkCreated")
