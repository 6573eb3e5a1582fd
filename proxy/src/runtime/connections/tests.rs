use std::{
    cell::RefCell,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use svidecar_process::{clock, memory::Pressure};
use tokio::{sync::watch, task::LocalSet};

use super::*;
use crate::runtime::shortage::Shortage;

pub struct Scene {
    version: watch::Sender<u64>,
    number: Arc<AtomicU64>,
    pub phase: watch::Sender<Phase>,
    shortage: Shortage,
    pub registry: Rc<Registry>,
}

/// Runs `test` beside the registry's own task.
pub async fn with_registry<F: Future<Output = ()>>(test: impl FnOnce(Rc<Scene>) -> F) {
    let (version, phase) = (watch::Sender::new(1), watch::Sender::new(Phase::Running));
    let number = Arc::new(AtomicU64::new(1));
    let registry = Registry::new(Arc::clone(&number), Phase::Running);
    let (versions, phases) = (version.subscribe(), phase.subscribe());
    let shortage = Shortage::default();
    let shortages = shortage.subscribe();
    let scene = Rc::new(Scene { version, number, phase, shortage, registry: Rc::clone(&registry) });
    let local = LocalSet::new();
    local.spawn_local(async move { registry.follow(versions, phases, shortages).await });
    local.run_until(test(scene)).await;
}

/// Timers may be a little late.
pub const LATE: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn each_event_is_told_once_and_in_order() {
    with_registry(|scene| async move {
        let mut follower = Follower::new(&scene.registry, Direction::Outbound);
        follower.expire_after(Duration::from_secs(60));
        let told = RefCell::new(Vec::new());
        let start = clock::timer();
        scene.number.store(2, Ordering::Release);
        scene.version.send_replace(2);
        let over = follower
            .over(|event| {
                told.borrow_mut().push(event);
                match event {
                    Event::Changed => {
                        scene.phase.send_replace(Phase::Inbound);
                        Fate::GoesOn
                    }
                    Event::PeerExpired => {
                        scene.phase.send_replace(Phase::Everything);
                        Fate::Finishes(Ending::PeerExpired, Some(Duration::from_secs(50)))
                    }
                    Event::Draining => Fate::Finishes(Ending::Drained, Some(Duration::from_secs(5))),
                    Event::Crowded | Event::Weighed => panic!("nobody asked for room"),
                }
            })
            .await;
        // Inbound draining is no business of an outbound connection, and the first reason stays.
        assert_eq!(*told.borrow(), [Event::Changed, Event::PeerExpired, Event::Draining]);
        assert_eq!(over, Over::Cut(Ending::PeerExpired));
        let took = clock::timer() - start;
        assert!(took >= Duration::from_secs(65) && took < Duration::from_secs(65) + LATE, "{took:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn force_ends_at_once() {
    with_registry(|scene| async move {
        let mut follower = Follower::new(&scene.registry, Direction::Inbound);
        scene.phase.send_replace(Phase::Force);
        assert_eq!(follower.over(|_| Fate::GoesOn).await, Over::Cut(Ending::Drained));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_has_most_makes_room() {
    with_registry(|scene| async move {
        let follower = |whose: &str| Follower::new(&scene.registry, Direction::Inbound).counted_as(&whose);
        let mut greedy: Vec<_> = (0..16).map(|_| follower("greedy")).collect();
        let mut modest = [follower("modest"), Follower::new(&scene.registry, Direction::Inbound)];
        let is_crowded = |follower: &mut Follower| {
            let mut crowded = false;
            let judge = |event| {
                crowded |= event == Event::Crowded;
                Fate::Finishes(Ending::Drained, None)
            };
            let cx = Context::from_waker(std::task::Waker::noop());
            assert!(follower.poll_over(&cx, judge).is_pending());
            crowded
        };
        let mut told = 0;
        for times in [2, 2, 2] {
            scene.shortage.tell();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let crowded = greedy.iter_mut().filter_map(|follower| is_crowded(follower).then_some(())).count();
            assert_eq!(crowded, times, "after {told}");
            told += crowded;
            assert!(!modest.iter_mut().any(is_crowded));
        }
        assert_eq!(greedy.iter().filter(|follower| follower.is_finishing()).count(), told);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_holds_most_is_cut_off_for_want_of_memory() {
    with_registry(|scene| async move {
        let follower = |whose: &str| Follower::new(&scene.registry, Direction::Inbound).counted_as(&whose);
        let mut many: Vec<_> = (0..16).map(|_| follower("many")).collect();
        let mut heavy = [follower("heavy"), follower("heavy")];
        let look = |follower: &mut Follower, octets| {
            let judge = |event| if event == Event::Weighed { Fate::Holds(octets) } else { Fate::GoesOn };
            follower.poll_over(&Context::from_waker(std::task::Waker::noop()), judge)
        };
        for pressure in [Pressure::Short, Pressure::Cut] {
            scene.shortage.tell_of_memory(pressure);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(many.iter_mut().all(|follower| look(follower, 1000).is_pending()));
            assert!(heavy.iter_mut().all(|follower| look(follower, 8 << 20).is_pending()));
        }
        tokio::time::sleep(LATE).await;
        assert!(many.iter_mut().all(|follower| look(follower, 1000).is_pending()));
        let cut = Poll::Ready(Over::Cut(Ending::MemoryShort));
        let ends = heavy.iter_mut().map(|follower| look(follower, 8 << 20));
        assert_eq!(ends.filter(|end| *end == cut).count(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_can_be_moved_and_taken_back() {
    with_registry(|scene| async move {
        let (mut early, mut late) = (
            Follower::new(&scene.registry, Direction::Inbound),
            Follower::new(&scene.registry, Direction::Inbound),
        );
        let start = clock::timer();
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        early.set_timer(at(10));
        late.set_timer(at(20));
        let later = async {
            assert_eq!(early.over(|_| Fate::GoesOn).await, Over::TimedOut);
            assert!(clock::timer() - start < Duration::from_secs(10) + LATE);
            early.set_timer(at(30));
            early.set_timer(None);
            early.set_timer(at(40));
            assert_eq!(early.over(|_| Fate::GoesOn).await, Over::TimedOut);
            clock::timer() - start
        };
        let (over, took) = tokio::join!(late.over(|_| Fate::GoesOn), later);
        assert_eq!(over, Over::TimedOut);
        assert!(took >= Duration::from_secs(40) && took < Duration::from_secs(40) + LATE, "{took:?}");
    })
    .await;
}

#[test]
fn leaving_is_spread_over_at_most_a_tenth_of_what_is_left() {
    let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(1_000_000 + seconds));
    let now = at(0);
    assert_eq!(time_to_leave(at(100), now, 0.0), Duration::from_secs(100));
    assert_eq!(time_to_leave(at(100), now, 1.0), Duration::from_secs(90));
    assert_eq!(time_to_leave(at(3600), now, 1.0), Duration::from_secs(3570));
    assert_eq!(time_to_leave(now, at(1), 0.5), Duration::ZERO);
}
