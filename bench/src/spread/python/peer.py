"""A peer of a swarm, by libtorrent: peer.py TORRENT FOLDER ADDRESS:PORT [DONE]

Seeds what is in FOLDER where no file DONE is named; else it makes that file when it has everything, and goes on. Its settings are
for a fast network whose hosts trust one another.
"""

import sys
import time

import libtorrent

torrent, folder, listen, *done = sys.argv[1:]

settings = {
    "listen_interfaces": listen,
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "out_enc_policy": int(libtorrent.enc_policy.disabled),
    "in_enc_policy": int(libtorrent.enc_policy.disabled),
    "choking_algorithm": int(libtorrent.choking_algorithm_t.fixed_slots_choker),
    "unchoke_slots_limit": -1,
    "connections_limit": 500,
    "connection_speed": 200,
    "torrent_connect_boost": 255,
    "announce_to_all_trackers": True,
    "min_reconnect_time": 1,
    "peer_turnover": 0,
    "max_out_request_queue": 1500,
    "max_allowed_in_request_queue": 4000,
    "send_buffer_watermark": 4 << 20,
    "send_buffer_low_watermark": 1 << 20,
    "send_socket_buffer_size": 4 << 20,
    "recv_socket_buffer_size": 4 << 20,
    "max_queued_disk_bytes": 64 << 20,
    "close_redundant_connections": False,
    "alert_mask": int(libtorrent.alert.category_t.status_notification | libtorrent.alert.category_t.storage_notification),
}
session = libtorrent.session(settings)
wanted = libtorrent.add_torrent_params()
wanted.ti = libtorrent.torrent_info(torrent)
wanted.save_path = folder
wanted.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
if not done:
    wanted.flags |= libtorrent.torrent_flags.seed_mode
peer = session.add_torrent(wanted)

while done:
    session.wait_for_alert(1000)
    for alert in session.pop_alerts():
        if isinstance(alert, libtorrent.torrent_finished_alert):
            peer.flush_cache()
        elif isinstance(alert, libtorrent.cache_flushed_alert) and peer.status().is_seeding:
            open(done.pop(), "w").close()
            break
while True:
    time.sleep(1000)
