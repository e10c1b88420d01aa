//! Every deadline, to the nanosecond.

use std::time::Duration;

use getty_core::{Close, Deadline, Timestamp};

use crate::common::{NS, Solo, frame, secs};

const NONE: [&str; 0] = [];
const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);

#[test]
fn cron_comes_every_period_and_not_before() {
    let mut solo = Solo::with(|c| c.cron_period(secs(2)));
    assert_eq!(solo.session.timeout_reason(), Some(Deadline::Cron));
    for n in 1..=5 {
        assert_eq!(solo.session.poll_timeout(), Some(solo.clock.at(secs(2 * n))));
        assert_eq!(solo.at(secs(2 * n) - NS), NONE);
        assert_eq!(solo.at(secs(2 * n)), ["Cron"]);
        assert_eq!(solo.at(secs(2 * n)), NONE);
    }
}

#[test]
fn a_late_cron_keeps_step_and_missed_ones_are_not_made_up_for() {
    let mut solo = Solo::with(|c| c.cron_period(secs(2)));
    assert_eq!(solo.at(secs(3)), ["Cron"]);
    assert_eq!(solo.session.poll_timeout(), Some(solo.clock.at(secs(4))));
    assert_eq!(solo.at(secs(21)), ["Cron"]);
    assert_eq!(solo.session.poll_timeout(), Some(solo.clock.at(secs(23))));
    assert_eq!(solo.at(secs(23) - NS), NONE);
    assert_eq!(solo.at(secs(23)), ["Cron"]);
}

#[test]
fn cron_goes_on_while_paused_and_after_the_peers_end() {
    let mut solo = Solo::with(|c| c.cron_period(secs(2)));
    solo.session.pause();
    assert_eq!(solo.at(secs(2)), ["Cron"]);
    solo.session.resume(solo.clock.now());
    solo.eof();
    assert_eq!(solo.poll(), ["Eof"]);
    assert_eq!(solo.at(secs(4)), ["Cron"]);
}

#[test]
fn idle_comes_once_per_quiet_period() {
    let mut solo = Solo::with(|c| c.idle_read(secs(3)));
    assert_eq!(solo.session.timeout_reason(), Some(Deadline::IdleRead));
    assert_eq!(solo.at(secs(3) - NS), NONE);
    assert_eq!(solo.at(secs(3)), ["Idle::Read"]);
    for t in 4..20 {
        assert_eq!(solo.at(secs(t)), NONE, "at {t}");
    }
    solo.input(&frame(b"a")); // at 19 s
    assert_eq!(solo.poll(), ["Message a"]);
    assert_eq!(solo.at(secs(22) - NS), NONE);
    assert_eq!(solo.at(secs(22)), ["Idle::Read"]);
    assert_eq!(solo.at(secs(30)), NONE);
}

#[test]
fn each_way_of_being_idle_is_measured_on_its_own_bytes() {
    let mut solo = Solo::with(|c| c.idle_read(secs(3)).idle_write(secs(4)).idle_both(secs(5)));
    assert_eq!(solo.at(secs(1)), NONE);
    solo.input(&frame(b"")[..1]); // one byte is a sign of life, even without a whole frame
    assert_eq!(solo.at(secs(2)), NONE);
    solo.send(10);
    solo.write(1);
    assert_eq!(solo.at(secs(4) - NS), NONE);
    assert_eq!(solo.at(secs(4)), ["Idle::Read"]);
    assert_eq!(solo.at(secs(6) - NS), NONE);
    assert_eq!(solo.at(secs(6)), ["Idle::Write"]);
    assert_eq!(solo.at(secs(7) - NS), NONE);
    assert_eq!(solo.at(secs(7)), ["Idle::Both"]);
}

const IDLE: &str = "Closed: timed out: nothing was received or sent (Config::idle_timeout)";

#[test]
fn a_session_on_which_nothing_moves_is_closed_gracefully() {
    let mut solo = Solo::with(|c| c.idle_timeout(secs(10)).idle_both(secs(4)));
    assert_eq!(solo.at(secs(3)), NONE);
    solo.input(&frame(b"")[..1]); // one byte is enough, in either direction
    assert_eq!(solo.at(secs(7)), ["Idle::Both"]);
    solo.send(10);
    assert_eq!(solo.at(secs(8)), NONE);
    solo.write(1);
    solo.write(13);
    assert_eq!(solo.at(secs(12)), ["Idle::Both"]);
    assert_eq!(solo.at(secs(18) - NS), NONE);
    assert_eq!(solo.session.timeout_reason(), Some(Deadline::Idle));
    assert!(!solo.session.wants_shutdown());
    assert_eq!(solo.at(secs(18)), NONE);
    assert!(solo.session.wants_shutdown(), "the peer gets the end of the stream");
    solo.session.handle_shutdown(solo.clock.now());
    solo.eof();
    assert_eq!(solo.poll(), [IDLE]);
    solo.assert_over();
}

#[test]
fn a_peer_that_does_not_end_its_side_of_an_idle_session_is_not_waited_for() {
    let mut solo = Solo::with(|c| c.idle_timeout(secs(10)).close_timeout(secs(2)));
    assert_eq!(solo.at(secs(10)), NONE);
    solo.session.handle_shutdown(solo.clock.now());
    assert_eq!(solo.at(secs(12)), [IDLE]);
}

#[test]
fn a_paused_session_is_not_idle() {
    let mut solo = Solo::with(|c| c.idle_timeout(secs(10)));
    solo.session.pause();
    for minutes in 1..10 {
        assert_eq!(solo.at(secs(60 * minutes)), NONE);
    }
    solo.session.resume(solo.clock.now());
    assert_eq!(solo.at(secs(550) - NS), NONE);
    assert!(!solo.session.wants_shutdown());
    assert_eq!(solo.at(secs(550)), NONE);
    assert!(solo.session.wants_shutdown());
}

#[test]
fn what_was_only_queued_is_not_a_sign_of_life() {
    let mut solo = Solo::with(|c| c.idle_write(secs(4)));
    assert_eq!(solo.at(secs(3)), NONE);
    solo.send(10);
    assert_eq!(solo.at(secs(4)), ["Idle::Write"]);
}

#[test]
fn a_partial_frame_has_its_time_from_where_it_began() {
    let mut solo = Solo::new();
    assert_eq!(solo.at(secs(5)), NONE);
    solo.input(&frame(b"abc")[..5]);
    assert_eq!(solo.poll(), NONE);
    assert_eq!(solo.session.timeout_reason(), Some(Deadline::PartialFrame));
    assert_eq!(solo.at(secs(20)), NONE);
    solo.input(b"b"); // slow-loris: this must not help
    assert_eq!(solo.at(secs(35) - NS), NONE);
    let told = solo.at(secs(35));
    assert_eq!(told, ["Closed: timed out: a frame stayed incomplete (Config::partial_frame_timeout)"]);
    solo.assert_over();
}

#[test]
fn a_frame_that_became_whole_in_time_gives_the_next_one_its_own_time() {
    let mut solo = Solo::new();
    solo.input(&frame(b"abc")[..5]);
    assert_eq!(solo.poll(), NONE);
    assert_eq!(solo.at(secs(10)), NONE);
    solo.input(b"bc");
    assert_eq!(solo.poll(), ["Message abc"]);
    assert_eq!(solo.at(secs(20)), NONE);
    solo.input(&frame(b"d")[..2]);
    assert_eq!(solo.poll(), NONE);
    assert_eq!(solo.at(secs(30)), NONE); // the deadline of the first frame
    assert_eq!(solo.at(secs(50) - NS), NONE);
    assert_eq!(solo.at(secs(50)).len(), 1);
}

/// As from a caller that was late, and hands over what waited before the time.
#[test]
fn bytes_that_are_not_decoded_yet_may_complete_a_frame() {
    let mut solo = Solo::new();
    let (abc, d) = (frame(b"abc"), frame(b"d"));
    solo.input(&abc[..5]);
    assert_eq!(solo.poll(), NONE);
    solo.clock.advance(secs(60));
    solo.input(&abc[5..]);
    solo.input(&d[..3]);
    assert_eq!(solo.at(secs(60)), ["Message abc"]);
    // One that they do not complete is over time as soon as that is known.
    solo.clock.advance(secs(60));
    solo.input(&d[3..4]);
    assert_eq!(solo.at(secs(120)), NONE);
    let told = solo.at(secs(120));
    assert_eq!(told, ["Closed: timed out: a frame stayed incomplete (Config::partial_frame_timeout)"]);
}

#[test]
fn sixty_four_kib_of_progress_renew_the_time_of_a_partial_frame() {
    for (progress, lives) in [(64 * 1024 - 1, false), (64 * 1024, true)] {
        let mut solo = Solo::new();
        solo.input(&frame(&[0; 200_000])[..10]);
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.at(secs(20)), NONE);
        solo.input(&vec![0; progress]);
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.at(secs(30)).is_empty(), lives);
        if lives {
            assert_eq!(solo.at(secs(50) - NS), NONE);
            assert_eq!(solo.at(secs(50)).len(), 1);
        }
    }
}

#[test]
fn a_write_stall_counts_from_the_last_byte_taken() {
    let mut solo = Solo::new();
    solo.send(100);
    solo.write(1);
    assert_eq!(solo.session.timeout_reason(), Some(Deadline::WriteStall));
    assert_eq!(solo.at(secs(20)), NONE);
    solo.write(1);
    assert_eq!(solo.at(secs(50) - NS), NONE);
    let told = solo.at(secs(50));
    assert_eq!(told, ["Closed: timed out: the peer took no bytes (Config::write_stall_timeout)"]);
    assert!(solo.session.stats().progress.partly_written);
    solo.assert_over();
}

/// Sockets may be tried before they are known to be ready. Then the system's buffer may still have some room
/// when the time is up.
#[test]
fn the_last_room_in_the_buffer_is_no_progress() {
    for (late, lives) in [(Duration::ZERO, false), (100 * MS, false), (101 * MS, true)] {
        let mut solo = Solo::new();
        solo.send(100);
        solo.write(1);
        solo.clock.jump(solo.clock.at(secs(30) + late));
        solo.write(50);
        let told = solo.at(secs(30) + late);
        assert_eq!(told.is_empty(), lives, "{late:?}: {told:?}");
    }
    // Writing all of it is progress at any time.
    let mut solo = Solo::new();
    solo.send(100);
    solo.write(1);
    solo.clock.jump(solo.clock.at(secs(30)));
    solo.write(1);
    solo.write_all();
    assert_eq!(solo.at(secs(30)), NONE);
    solo.send(100);
    solo.write(0);
    assert_eq!(solo.at(secs(60) - NS), NONE);
    assert_eq!(solo.at(secs(60)).len(), 1);
}

#[test]
fn a_write_stall_counts_from_when_the_transport_was_first_asked() {
    let mut solo = Solo::new();
    solo.clock.advance(secs(100)); // quiet: the session has not heard of this time
    solo.send(100);
    solo.write(0);
    assert_eq!(solo.at(secs(100)), NONE, "the timeout came early");
    assert_eq!(solo.at(secs(130) - NS), NONE);
    assert_eq!(solo.at(secs(130)).len(), 1);
}

#[test]
fn an_outlived_write_stall_does_not_hit_the_next_message_early() {
    let mut solo = Solo::new();
    solo.send(100);
    solo.write(1);
    solo.write_all();
    solo.clock.jump(solo.clock.at(secs(100)));
    solo.send(100);
    assert_eq!(solo.at(secs(100)), NONE, "the first message's deadline closed the session");
    solo.write(0);
    assert_eq!(solo.at(secs(130) - NS), NONE);
    assert_eq!(solo.at(secs(130)).len(), 1);
}

#[test]
fn a_close_has_its_time_and_is_then_cut_short() {
    let mut solo = Solo::with(|c| c.cron_period(secs(1)).idle_read(secs(1)));
    assert_eq!(solo.at(Duration::from_millis(500)), NONE);
    solo.send(100);
    solo.session.close(solo.clock.now(), Close::graceful());
    assert_eq!(solo.session.timeout_reason(), Some(Deadline::Close));
    assert_eq!(solo.at(Duration::from_millis(5500) - NS), NONE); // neither cron nor idle
    let told = solo.at(Duration::from_millis(5500));
    assert_eq!(told, ["Closed: timed out: the close was not done in time (Config::close_timeout)"]);
    solo.assert_over();
}

#[test]
fn a_pause_suspends_the_peers_deadlines_and_they_start_afresh() {
    let mut solo = Solo::with(|c| c.idle_read(secs(40)).idle_both(secs(50)));
    solo.input(&frame(b"abc")[..5]);
    assert_eq!(solo.poll(), NONE);
    solo.session.pause();
    for t in 1..100 {
        assert_eq!(solo.at(secs(t)), NONE, "at {t}");
    }
    solo.session.resume(solo.clock.now()); // at 99 s
    assert_eq!(solo.at(secs(129) - NS), NONE);
    assert_eq!(solo.at(secs(129)).len(), 1, "the partial frame's deadline");

    let mut solo = Solo::with(|c| c.idle_read(secs(40)).idle_both(secs(50)));
    solo.session.pause();
    assert_eq!(solo.at(secs(99)), NONE);
    solo.session.resume(solo.clock.now());
    assert_eq!(solo.at(secs(139) - NS), NONE);
    assert_eq!(solo.at(secs(139)), ["Idle::Read"]);
    assert_eq!(solo.at(secs(149)), ["Idle::Both"]);
}

/// Handles a message by sending `answers` messages of 5 bytes on the wire, without a poll after that.
fn answer(solo: &mut Solo, answers: usize) {
    solo.input(&frame(b"question"));
    assert_eq!(solo.session.poll_messages(&mut Vec::new(), 1), 1);
    (0..answers).for_each(|_| solo.send(1));
}

/// Above the high watermark reading stops, so that silence is not the peer's fault. Only the writes show the
/// session that this is over: no poll comes between them and the timeout.
#[test]
fn a_queue_full_of_answers_suspends_the_peers_deadlines_and_they_start_afresh() {
    let set =
        |c: getty_core::ConfigBuilder| c.idle_read(secs(30)).write_stall_timeout(None).watermarks(10, 20);
    let mut solo = Solo::with(set);
    answer(&mut solo, 20);
    for t in 1..=60 {
        assert_eq!(solo.at(secs(t)), NONE, "at {t}");
    }
    solo.write(60); // still above the watermark
    solo.write_all();
    let now = solo.clock.at(secs(90) - NS);
    solo.session.handle_timeout(now);
    assert_eq!(solo.poll(), NONE);
    assert_eq!(solo.at(secs(90)), ["Idle::Read"]);
}

#[test]
fn between_the_watermarks_a_queue_that_was_full_still_suspends() {
    let mut solo = Solo::with(|c| c.idle_read(secs(30)).watermarks(10, 20).write_stall_timeout(None));
    answer(&mut solo, 5);
    solo.write(10);
    assert_eq!(solo.at(secs(1000)), NONE);
    assert!(!solo.session.wants_read());
    solo.write(5);
    assert!(solo.session.wants_read());
    assert_eq!(solo.at(secs(1030) - NS), NONE);
    assert_eq!(solo.at(secs(1030)), ["Idle::Read"]);
}

#[test]
fn after_the_peers_end_nothing_is_expected_of_it() {
    let mut solo = Solo::with(|c| c.idle_read(secs(1)));
    solo.eof();
    assert_eq!(solo.poll(), ["Eof"]);
    assert_eq!(solo.session.poll_timeout(), None);
    assert_eq!(solo.at(secs(1000)), NONE);
}

#[test]
fn a_last_line_without_an_end_leaves_no_deadline_behind() {
    use getty_core::codec::Lines;
    use getty_core::{Config, Event, Framed, Session};

    let mut clock = testkit::clock::Clock::new();
    let protocol = Framed::<_, String>::new(Lines::new());
    let mut session = Session::new(protocol, Config::builder().build().unwrap(), clock.now());
    session.handle_input(clock.now(), b"last");
    let mut told: Vec<_> = std::iter::from_fn(|| session.poll_event()).collect();
    session.handle_eof(clock.now());
    told.extend(std::iter::from_fn(|| session.poll_event()));
    assert!(matches!(&told[..], [Event::Open(_), Event::Message(line), Event::Eof] if line == "last"));
    assert!(session.poll_event().is_none());
    assert_eq!(session.poll_timeout(), None);
    session.handle_timeout(clock.advance(secs(100)));
    assert!(session.poll_event().is_none() && session.is_open());
}

#[test]
fn traffic_moves_no_timer() {
    let quiet = |c: getty_core::ConfigBuilder| c.partial_frame_timeout(None).write_stall_timeout(None);
    traffic_moves_no_timer_of(Deadline::PartialFrame, |c| c.write_stall_timeout(None));
    traffic_moves_no_timer_of(Deadline::WriteStall, |c| c.partial_frame_timeout(None));
    traffic_moves_no_timer_of(Deadline::Cron, |c| quiet(c).cron_period(secs(60)));
    traffic_moves_no_timer_of(Deadline::IdleRead, |c| quiet(c).idle_read(secs(60)));
    traffic_moves_no_timer_of(Deadline::IdleWrite, |c| quiet(c).idle_write(secs(60)));
    traffic_moves_no_timer_of(Deadline::IdleBoth, |c| quiet(c).idle_both(secs(60)));
    traffic_moves_no_timer_of(Deadline::Idle, |c| quiet(c).idle_timeout(secs(60)));
}

fn traffic_moves_no_timer_of(
    deadline: Deadline,
    set: impl FnOnce(getty_core::ConfigBuilder) -> getty_core::ConfigBuilder,
) {
    let mut solo = Solo::with(set);
    let whole = frame(b"some message");
    solo.input(&whole[..3]); // each frame arrives in two parts, and each write leaves something unwritten
    assert_eq!(solo.poll(), NONE);
    solo.send(10);
    solo.write(1);
    let armed = solo.session.poll_timeout();
    assert_eq!(solo.session.timeout_reason(), Some(deadline));
    let mut moves = 0;
    for _ in 0..900 {
        solo.clock.advance(Duration::from_millis(30));
        solo.input(&whole[3..]);
        solo.input(&whole[..3]);
        assert_eq!(solo.poll(), ["Message some message"]);
        solo.send(10);
        solo.write(14);
        moves += u32::from(solo.session.poll_timeout() != armed);
    }
    assert_eq!(moves, 0, "{deadline:?}");
}

#[test]
fn the_earliest_deadline_is_told_also_when_it_is_new() {
    let mut solo = Solo::with(|c| c.cron_period(secs(60)));
    solo.send(10);
    solo.write(1);
    assert_eq!(solo.session.timeout_reason(), Some(Deadline::WriteStall));
    solo.session.close(solo.clock.now(), Close::graceful());
    assert_eq!(solo.session.poll_timeout(), Some(solo.clock.at(secs(5))));
}

/// The clock belongs to the embedder: whatever it does, nothing panics, comes early, or comes twice at one
/// time.
#[test]
fn clock_steps() {
    let all = |c: getty_core::ConfigBuilder| c.cron_period(secs(10)).idle_both(secs(10)).idle_read(secs(10));
    let each_once = ["Cron", "Idle::Read", "Idle::Both"];
    for step in [HOUR, secs(49 * 86_400), Duration::from_nanos(1 << 63)] {
        let mut solo = Solo::with(all);
        assert_eq!(solo.at(secs(10) - NS), NONE);
        assert_eq!(solo.at(step), each_once);
        assert_eq!(solo.at(step), NONE, "equal instants");
        solo.session.handle_timeout(Timestamp::ORIGIN);
        solo.session.handle_input(Timestamp::ORIGIN, &frame(b"a"));
        assert_eq!(solo.poll(), ["Message a"], "a step back");
        assert_eq!(solo.session.last_active(), solo.clock.at(step));
        assert_eq!(solo.at(step + secs(10) - NS), NONE);
        assert_eq!(solo.at(step + secs(10)), each_once);
    }
}

/// All deadlines pass at once, after hours of sleep: the session ends for one of them, once.
#[test]
fn of_many_deadlines_that_passed_one_ends_the_session() {
    let mut solo = Solo::with(|c| c.cron_period(secs(1)).idle_both(secs(1)).idle_write(secs(1)));
    solo.input(&frame(b"abc")[..5]);
    solo.send(100);
    solo.write(1);
    assert_eq!(solo.poll(), NONE);
    solo.session.close(solo.clock.now(), Close::graceful());
    assert_eq!(
        solo.at(10 * HOUR),
        ["Closed: timed out: the close was not done in time (Config::close_timeout)"]
    );
    solo.assert_over();

    let mut solo = Solo::with(|c| c.cron_period(secs(1)).idle_both(secs(1)).idle_write(secs(1)));
    solo.input(&frame(b"abc")[..5]);
    solo.send(100);
    solo.write(1);
    assert_eq!(solo.poll(), NONE);
    let told = solo.at(10 * HOUR);
    let ends = told.iter().filter(|event| event.starts_with("Closed: timed out: a frame stayed incomplete"));
    assert_eq!((ends.count(), told.iter().filter(|event| event.starts_with("Closed")).count()), (1, 1));
    assert!(told.last().unwrap().starts_with("Closed"), "{told:?}");
    assert!(solo.session.stats().progress.partly_written);
    solo.assert_over();
}

/// However the clock moves, a deadline comes when the latest time seen so far has reached it.
#[test]
fn a_clock_that_goes_to_and_fro() {
    let mut solo = Solo::with(|c| c.cron_period(secs(2)).idle_read(secs(5)));
    for (at, told) in [(1, &[][..]), (0, &[]), (2, &["Cron"]), (1, &[])] {
        assert_eq!(solo.at(secs(at)), told, "at {at}");
    }
    solo.input(&frame(b"a")); // at 1 s, which counts as 2 s for the session
    assert_eq!(solo.poll(), ["Message a"]);
    for (at, told) in
        [(4, &["Cron"][..]), (0, &[]), (6, &["Cron"]), (5, &[]), (6, &[]), (7, &["Idle::Read"]), (3, &[])]
    {
        assert_eq!(solo.at(secs(at)), told, "at {at}");
        assert!(solo.session.poll_timeout().is_some_and(|next| next > solo.clock.at(secs(at))));
    }
}
