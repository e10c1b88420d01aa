//! Every period of a datagram session, to the nanosecond.

use getty_core::Timestamp;
use getty_core::codec::Raw;
use getty_core::datagram::PacketOptions;

use crate::packets_common::{NONE, NS, Solo, bytes, peer, secs};

#[test]
fn cron_comes_every_period_and_not_before() {
    let mut solo = Solo::with(|c| c.cron_period(secs(2)));
    for n in 1..=5 {
        assert_eq!(solo.packets.poll_timeout(), Some(solo.clock.at(secs(2 * n))));
        assert_eq!(solo.at(secs(2 * n) - NS), NONE);
        assert_eq!(solo.at(secs(2 * n)), ["Cron"]);
        assert_eq!(solo.at(secs(2 * n)), NONE);
    }
}

#[test]
fn a_late_cron_keeps_step_and_missed_ones_are_not_made_up_for() {
    let mut solo = Solo::with(|c| c.cron_period(secs(2)));
    assert_eq!(solo.at(secs(3)), ["Cron"]);
    assert_eq!(solo.packets.poll_timeout(), Some(solo.clock.at(secs(4))));
    assert_eq!(solo.at(secs(21)), ["Cron"]);
    assert_eq!(solo.packets.poll_timeout(), Some(solo.clock.at(secs(23))));
    assert_eq!(solo.at(secs(23)), ["Cron"]);
}

#[test]
fn cron_goes_on_while_paused() {
    let mut solo = Solo::with(|c| c.cron_period(secs(2)));
    solo.packets.pause();
    assert_eq!(solo.at(secs(2)), ["Cron"]);
}

#[test]
fn idle_comes_once_per_quiet_period() {
    let mut solo = Solo::with(|c| c.idle_read(secs(3)));
    assert_eq!(solo.at(secs(3) - NS), NONE);
    assert_eq!(solo.at(secs(3)), ["Idle::Read"]);
    for t in 4..20 {
        assert_eq!(solo.at(secs(t)), NONE, "at {t}");
    }
    assert_eq!(solo.told(7, "a"), ["Message a"]); // at 19 s
    assert_eq!(solo.at(secs(22) - NS), NONE);
    assert_eq!(solo.at(secs(22)), ["Idle::Read"]);
    assert_eq!(solo.at(secs(30)), NONE);
}

#[test]
fn each_way_of_being_idle_is_measured_on_its_own_datagrams() {
    let mut solo = Solo::with(|c| c.idle_read(secs(3)).idle_write(secs(4)).idle_both(secs(5)));
    assert_eq!(solo.at(secs(1)), NONE);
    solo.told(7, ""); // even a bad datagram shows that a peer is there
    assert_eq!(solo.at(secs(2)), NONE);
    solo.packets.send_to(peer(7), bytes("a")).unwrap();
    solo.flush();
    assert_eq!(solo.at(secs(4) - NS), NONE);
    assert_eq!(solo.at(secs(4)), ["Idle::Read"]);
    assert_eq!(solo.at(secs(6) - NS), NONE);
    assert_eq!(solo.at(secs(6)), ["Idle::Write"]);
    assert_eq!(solo.at(secs(7) - NS), NONE);
    assert_eq!(solo.at(secs(7)), ["Idle::Both"]);
}

/// The session is for all peers: it does not end because none of them sends.
#[test]
fn the_session_of_a_whole_socket_is_not_closed_for_being_idle() {
    let mut solo = Solo::with(|c| c.idle_timeout(secs(10)));
    assert_eq!(solo.at(secs(3600)), NONE);
    assert_eq!(solo.told(7, "a"), ["Message a"]);
}

#[test]
fn the_session_of_a_connected_socket_is_closed_for_being_idle() {
    let mut solo = Solo::of(Raw, PacketOptions::connected(), |c| c.idle_timeout(secs(10)));
    assert_eq!(solo.at(secs(9)), NONE);
    solo.packets.send(bytes("a")).unwrap();
    solo.flush();
    assert_eq!(solo.at(secs(19) - NS), NONE);
    assert_eq!(solo.at(secs(19)), ["Closed: timed out: nothing was received or sent (Config::idle_timeout)"]);
}

#[test]
fn what_was_only_queued_or_refused_by_the_socket_is_not_sent() {
    let mut solo = Solo::with(|c| c.idle_write(secs(4)));
    solo.at(secs(3));
    for _ in 0..2 {
        solo.packets.send_to(peer(7), bytes("a")).unwrap();
    }
    solo.packets.handle_unsent(solo.clock.now(), std::io::ErrorKind::Other);
    let told = solo.at(secs(4));
    assert!(told.contains(&"Idle::Write".to_owned()), "{told:?}");
}

#[test]
fn peers_are_not_idle_while_the_session_is_paused_and_their_time_starts_afresh() {
    let mut solo = Solo::with(|c| c.idle_read(secs(3)).idle_both(secs(4)));
    solo.at(secs(2));
    solo.packets.pause();
    assert_eq!(solo.at(secs(100)), NONE);
    solo.packets.resume(solo.clock.now());
    assert_eq!(solo.at(secs(103) - NS), NONE);
    assert_eq!(solo.at(secs(103)), ["Idle::Read"]);
    assert_eq!(solo.at(secs(104)), ["Idle::Both"]);
}

#[test]
fn peers_are_not_idle_while_answers_wait_for_the_socket() {
    let mut solo = Solo::with(|c| c.idle_read(secs(3)).watermarks(0, 1));
    solo.receive(7, "abc");
    solo.echo();
    assert_eq!(solo.at(secs(100)), NONE);
    solo.flush();
    assert_eq!(solo.at(secs(103) - NS), NONE);
    assert_eq!(solo.at(secs(103)), ["Idle::Read"]);
}

#[test]
fn writing_is_idle_in_a_pause_too() {
    let mut solo = Solo::with(|c| c.idle_write(secs(3)));
    solo.packets.pause();
    assert_eq!(solo.at(secs(3)), ["Idle::Write"]);
}

#[test]
fn a_sign_of_life_is_noted_and_no_traffic() {
    let mut solo = Solo::with(|c| c.idle_read(secs(3)));
    assert_eq!(solo.packets.last_active(), solo.clock.at(secs(0)));
    solo.at(secs(1));
    solo.told(7, "a");
    assert_eq!(solo.packets.last_active(), solo.clock.at(secs(1)));
    solo.at(secs(2));
    solo.packets.update_active(solo.clock.now());
    assert_eq!(solo.packets.last_active(), solo.clock.at(secs(2)));
    solo.packets.send_to(peer(7), bytes("a")).unwrap();
    assert_eq!(solo.at(secs(3)), NONE);
    solo.flush(); // this end's sending is no sign of life from a peer
    assert_eq!(solo.packets.last_active(), solo.clock.at(secs(2)));
    assert_eq!(solo.at(secs(4)), ["Idle::Read"]);
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut solo = Solo::with(|c| c.cron_period(secs(2)));
    solo.at(secs(3));
    solo.packets.handle_timeout(Timestamp::ORIGIN);
    solo.packets.update_active(Timestamp::ORIGIN);
    assert_eq!(solo.packets.last_active(), solo.clock.at(secs(3)));
    assert_eq!(solo.packets.poll_timeout(), Some(solo.clock.at(secs(4))));
}

#[test]
fn traffic_does_not_move_the_timer() {
    let mut solo = Solo::with(|c| c.idle_read(secs(3)));
    let at = solo.packets.poll_timeout();
    for n in 1..3 {
        solo.clock.jump(solo.clock.at(secs(n)));
        solo.told(7, "a");
        solo.receive(7, "b");
        solo.echo();
        solo.flush();
        assert_eq!(solo.packets.poll_timeout(), at);
    }
    assert_eq!(solo.at(secs(3)), NONE, "checked, but not due");
    assert_eq!(solo.packets.poll_timeout(), Some(solo.clock.at(secs(5))));
}
