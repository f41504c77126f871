//! Any plan's text parses back to that plan, and no text is a danger to the parser.

use super::*;
use crate::scenario::{RestoreKind, UnlikeKind, WayKind, WhomKind};
use crate::subject::{FILE_OPERATIONS, Reach, WINDOWS, Window, all_windows};
use ninelives_evidence::limits;
use ninelives_evidence::member::{Engine, Slot};
use proptest::prelude::*;

fn any_whom() -> impl Strategy<Value = Whom> {
    (prop::sample::select(WhomKind::ALL.to_vec()), 0..7u32).prop_map(|(kind, rank)| {
        let rank = if matches!(kind, WhomKind::Leader | WhomKind::All) { 0 } else { rank };
        Whom { kind, rank }
    })
}

fn any_when() -> impl Strategy<Value = When> {
    prop_oneof![
        (prop::sample::select(all_windows().collect::<Vec<_>>()), 1..u64::MAX)
            .prop_map(|(window, hit)| When::Window { window, hit }),
        (0..=limits::PLAN_AHEAD_MAX).prop_map(|ahead| When::Applied { ahead }),
        (0..=limits::PLAN_TIME_MS_MAX).prop_map(|ms| When::Time { ms }),
    ]
}

fn any_again() -> impl Strategy<Value = Vec<At>> {
    let windows: Vec<_> =
        WINDOWS.iter().filter(|window| matches!(window.reach, Reach::Recovery | Reach::Start)).collect();
    let at = (prop::sample::select(windows), 1..u64::MAX).prop_map(|(window, hit)| At { window, hit });
    prop::collection::vec(at, 0..=limits::PLAN_AGAIN_MAX)
}

fn any_power() -> impl Strategy<Value = Power> {
    let keep_percent = 0..=100u32;
    prop_oneof![
        Just(Power::Stays),
        keep_percent.clone().prop_map(|keep_percent| Power::Fails { keep_percent }),
        keep_percent.prop_map(|keep_percent| Power::FailsLast { keep_percent }),
    ]
}

/// The last kill alone is one of several.
fn fitting(power: Power, again: &[At]) -> Power {
    match power {
        Power::FailsLast { keep_percent } if again.is_empty() => Power::Fails { keep_percent },
        power => power,
    }
}

fn any_kill() -> impl Strategy<Value = Fault> {
    // A window must be one that its victims can pass, or parsing refuses it.
    (any_whom(), any_when(), any_again(), any_power())
        .prop_map(|(whom, when, again, power)| Fault::Kill { whom, when, power: fitting(power, &again), again })
        .prop_filter("victims that fit their window", |fault| match fault {
            Fault::Kill { whom, when: When::Window { window, .. }, .. } => whom.kind.reaches(window.reach),
            _ => true,
        })
}

fn any_lasting() -> impl Strategy<Value = Fault> {
    let when = any_when().prop_filter("a window that load leads to", |when| match when {
        When::Window { window, .. } => window.reach == Reach::Load,
        _ => true,
    });
    let link = prop_oneof![
        prop::sample::select(vec![Link::Isolate, Link::Mute, Link::Deafen]),
        (1..=limits::PLAN_DELAY_MS_MAX).prop_map(|by_ms| Link::Delay { by_ms }),
    ];
    let (pause, network) = (1..=limits::PLAN_PAUSE_MS_MAX, 1..=limits::PLAN_NETWORK_MS_MAX);
    (any_whom(), when, prop::option::of(link), pause, network).prop_map(|(whom, when, link, pause, network)| match link
    {
        Some(link) => Fault::Network { link, whom, when, ms: network },
        None => Fault::Pause { whom, when, ms: pause },
    })
}

fn any_failing() -> impl Strategy<Value = Ailment> {
    let operation = prop::sample::select(FILE_OPERATIONS.iter().collect::<Vec<_>>());
    let numbers = (1..=limits::PLAN_FAIL_HIT_MAX, 1..=limits::PLAN_FAIL_MS_MAX, 0..3u32);
    (operation, numbers).prop_map(|(operation, (hit, ms, how))| match how {
        0 if !operation.reads() => Ailment::Shorten { operation, ms },
        1 if !operation.reads() => Ailment::Fail { operation, hit, ms: 0 },
        _ => Ailment::Fail { operation, hit, ms },
    })
}

fn any_disk() -> impl Strategy<Value = Fault> {
    let (min, max) = limits::PLAN_LEFT_KIB;
    let left_kib = prop_oneof![Just(0), min..=max];
    let ailment = prop_oneof![
        (left_kib, 1..=limits::PLAN_FILL_MS_MAX).prop_map(|(left_kib, ms)| Ailment::Fill { left_kib, ms }),
        Just(Ailment::FailSync { losing: false }),
        any_failing(),
        (1..=limits::PLAN_SLOW_BY_MS_MAX, 1..=limits::PLAN_SLOW_MS_MAX)
            .prop_map(|(by_ms, ms)| Ailment::Slow { by_ms, ms }),
    ];
    (any_whom(), (0..=limits::PLAN_TIME_MS_MAX), ailment)
        .prop_map(|(whom, ms, ailment)| Fault::Disk(DiskFault { ailment, whom, when: When::Time { ms } }))
}

fn any_faults() -> impl Strategy<Value = Vec<Fault>> {
    let lasting = prop::collection::vec(any_lasting(), 0..limits::PLAN_FAULTS_MAX - 1);
    let together = (prop::option::of(any_kill()), prop::option::of(any_disk()), lasting);
    prop_oneof![
        any_upgrade().prop_map(|upgrade| vec![upgrade]),
        any_restore().prop_map(|restore| vec![restore]),
        any_strangers(),
        together
            .prop_map(|(kill, disk, lasting)| kill.into_iter().chain(disk).chain(lasting).collect::<Vec<_>>())
            .prop_filter("a fault", |faults| !faults.is_empty()),
    ]
    .prop_filter("a first life alone", |faults| faults.len() == 1 || !faults.iter().any(Fault::joins))
}

/// Behind a kill, which lasting faults may go on beside.
fn any_strangers() -> impl Strategy<Value = Vec<Fault>> {
    let lasting = prop::collection::vec(any_lasting(), 0..limits::PLAN_FAULTS_MAX - 1);
    (lasting, any_kill(), 1..=limits::PLAN_STRANGERS_MS_MAX).prop_map(|(mut faults, kill, ms)| {
        faults.extend([kill, Fault::Strangers { ms }]);
        faults
    })
}

fn any_restore() -> impl Strategy<Value = Fault> {
    let windows: Vec<_> = WINDOWS.iter().filter(|window| RestoreKind::reaches(window.reach)).collect();
    let at = (prop::sample::select(windows), 1..u64::MAX).prop_map(|(window, hit)| At { window, hit });
    let by = prop::sample::select(RestoreKind::ALL.to_vec());
    let from = prop::sample::select(UnlikeKind::ALL.to_vec());
    let unlike = (1..9u64, from).prop_map(|(slot, from)| Unlike { slot: Slot(slot), from });
    (1..9u64, by, any::<bool>(), prop::option::of(at), prop::option::of(unlike)).prop_map(
        |(slot, by, other, kill, unlike)| {
            let unlike = unlike.filter(|_| by == RestoreKind::All && kill.is_none());
            Fault::Restore(Restore { slot: Slot(slot), by, other, kill, unlike })
        },
    )
}

fn any_upgrade() -> impl Strategy<Value = Fault> {
    let windows = |kind: WayKind| -> Vec<&'static Window> {
        WINDOWS.iter().filter(|window| kind.reaches(window.reach)).collect()
    };
    let at = move |kind| {
        let any = (prop::sample::select(windows(kind)), 1..u64::MAX).prop_map(|(window, hit)| At { window, hit });
        prop::option::of(any)
    };
    let then = prop::sample::select(vec![Then::Migrate, Then::Serve]);
    let way = prop_oneof![
        (at(WayKind::Migrate), then, prop::option::of(0..=100u32))
            .prop_map(|(at, then, cut)| Way::Migrate { kill: at.map(|at| (at, then)), cut }),
        at(WayKind::Replace).prop_map(|kill| Way::Replace { kill }),
    ];
    (1..9u64, prop::sample::select(Engine::ALL.to_vec()), way)
        .prop_map(|(slot, to, way)| Fault::Upgrade(Upgrade { slot: Slot(slot), to, way }))
}

proptest! {
    #[test]
    fn what_is_printed_parses_back(
        seed in any::<u64>(),
        clusters in 1..5u32,
        steps in prop::collection::vec((1..5u32, any_faults()), 0..40),
    ) {
        let mut cycle = 0;
        let steps: Vec<_> = steps.into_iter()
            // Gaps between the numbers: what deleting lines leaves.
            .map(|(gap, faults)| { cycle += gap; Step { cycle, faults } })
            .collect();
        let plan = Plan { scenario: "x-1".into(), scenario_digest: "ab".repeat(32), seed, cycles: cycle, clusters, steps };
        prop_assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(plan 1\nscenario x y\nseed 1\ncycles 9\n)?(cycle 1  (kill|pause all for |delay all by |upgrade slot#|restore slot#)?)?[ -~\n]{0,200}") {
        let _ = text.parse::<Plan>();
    }
}
