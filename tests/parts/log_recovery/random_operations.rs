//! Any sequence of appends, syncs, faults and crashes, with crashes and faults during recovery too.

use leveret::storage::{
    DirectLogOptions, OpenFailure,
    testing::{Fault, PowerLoss},
};
use proptest::prelude::*;

use super::support::{Rig, options};

#[derive(Debug, Clone)]
enum Operation {
    Propose {
        payload_bytes: usize,
    },
    Step,
    Rest,
    Checkpoint,
    /// Segments that checkpoints made unnecessary go.
    Trim,
    /// Or a part of what is in them.
    Merge,
    /// One of the next changes to the disk fails.
    Fail {
        after: u64,
        fault: Fault,
    },
    /// The power goes during one of the next changes.
    CutPower {
        after: u64,
    },
    WriteShort {
        seed: u64,
    },
    /// The disk has room for so many bytes more, or for any number.
    Room {
        bytes: Option<usize>,
    },
    Restart(Restart),
}

#[derive(Debug, Clone)]
struct Restart {
    /// The process ends, and the machine stays on if it is.
    only_the_process: bool,
    outage: Outage,
    /// The power goes again during recovery, after so many changes.
    again: Option<(u64, Outage)>,
}

#[derive(Debug, Clone)]
struct Outage {
    loss: PowerLoss,
    seed: u64,
}

fn outage() -> impl Strategy<Value = Outage> {
    let loss = prop_oneof![1 => Just(PowerLoss::KeepsAll), 1 => Just(PowerLoss::LosesAll), 3 => Just(PowerLoss::Tears)];
    (loss, any::<u64>()).prop_map(|(loss, seed)| Outage { loss, seed })
}

fn restart() -> impl Strategy<Value = Operation> {
    let again = proptest::option::weighted(0.4, (0..8u64, outage()));
    (any::<bool>(), outage(), again).prop_map(|(only_the_process, outage, again)| {
        Operation::Restart(Restart { only_the_process, outage, again })
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let fault = prop_oneof![Just(Fault::Io), Just(Fault::Full)];
    prop_oneof![
        10 => (0..700usize).prop_map(|payload_bytes| Operation::Propose { payload_bytes }),
        1 => (700..5000usize).prop_map(|payload_bytes| Operation::Propose { payload_bytes }),
        6 => Just(Operation::Step),
        2 => Just(Operation::Rest),
        2 => Just(Operation::Checkpoint),
        1 => Just(Operation::Trim),
        2 => Just(Operation::Merge),
        1 => (0..12u64, fault).prop_map(|(after, fault)| Operation::Fail { after, fault }),
        1 => (0..12u64).prop_map(|after| Operation::CutPower { after }),
        1 => any::<u64>().prop_map(|seed| Operation::WriteShort { seed }),
        2 => proptest::option::of(0..3000usize).prop_map(|bytes| Operation::Room { bytes }),
        3 => restart(),
    ]
}

/// Restarts until the log opens. Only ordered faults and outages may keep it from that, and each does so once.
fn restart_rig(rig: &mut Rig, restart: &Restart, faults: &mut usize) {
    rig.stop();
    if restart.only_the_process && !rig.disk.is_powered_off() {
        rig.disk.kill_process();
    } else {
        rig.disk.restore_power(restart.outage.loss, restart.outage.seed);
        *faults = 0;
    }
    if let Some((after, _)) = restart.again {
        rig.disk.cut_power_at(rig.disk.changes() + after);
        *faults += 1;
    }
    loop {
        match rig.start() {
            Ok(_) => return,
            Err(OpenFailure::Disk(error)) => {
                assert!(*faults > 0, "{error} without a reason");
                *faults -= 1;
            }
            Err(failure) => panic!("{failure}"),
        }
        if rig.disk.is_powered_off() {
            let outage = restart.again.as_ref().map_or(&restart.outage, |(_, outage)| outage);
            rig.disk.restore_power(outage.loss, outage.seed ^ rig.disk.changes());
        } else {
            rig.disk.kill_process();
        }
    }
}

fn run(segment_bytes: u64, zero_ahead_bytes: u64, operations: &[Operation]) {
    let reserve_bytes = if segment_bytes.is_multiple_of(2) { 2048 } else { 0 };
    let mut rig =
        Rig::started(DirectLogOptions { reserve_bytes, ..options(segment_bytes, zero_ahead_bytes) });
    let mut faults = 0;
    for operation in operations {
        match operation {
            // A log that has failed refuses both; what it reports is checked within.
            Operation::Propose { payload_bytes } => _ = rig.propose(*payload_bytes),
            Operation::Step => _ = rig.step(),
            Operation::Rest => _ = rig.log().rest(),
            Operation::Checkpoint => _ = rig.checkpoint(),
            Operation::Trim => _ = rig.trim(),
            Operation::Merge => _ = rig.merge(),
            Operation::Fail { after, fault } => {
                rig.disk.fail_at(rig.disk.changes() + after, *fault);
                faults += 1;
            }
            Operation::CutPower { after } => {
                rig.disk.cut_power_at(rig.disk.changes() + after);
                faults += 1;
            }
            Operation::WriteShort { seed } => rig.disk.write_short(*seed),
            Operation::Room { bytes } if !rig.disk.is_powered_off() => rig.limit_room(*bytes),
            Operation::Room { .. } => {}
            Operation::Restart(restart) => restart_rig(&mut rig, restart, &mut faults),
        }
    }
    let outage = Outage { loss: PowerLoss::Tears, seed: 1 };
    restart_rig(&mut rig, &Restart { only_the_process: false, outage, again: None }, &mut faults);
    // And whatever happened, it goes on.
    rig.limit_room(None);
    rig.append(300);
    rig.append(3000);
    let durable = rig.durable();
    rig.disk.restore_power(PowerLoss::LosesAll, 0);
    let report = rig.start().unwrap();
    assert_eq!((rig.durable(), report.cut), (durable, None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_durable_comes_back_and_nothing_else(
        segment_bytes in 1024..6000u64,
        zero_ahead_bytes in prop_oneof![Just(0u64), Just(600), Just(4096)],
        operations in proptest::collection::vec(operation(), 1..60),
    ) {
        run(segment_bytes, zero_ahead_bytes, &operations);
    }
}
