//! Restarts: what a dead directory holds, and how the next life begins on it. N is the persisted
//! last-flushed index, E the engine's own.

use super::parts::{DeadWatermark, Migration, Span, Store, Vote, or_nothing};
use crate::member::Engine;

findings! {
    /// A dead directory proves what was promised, and a restart begins where it says.
    Restarts:

    RefusedAfterOwnCrash IndexUnreadable { error: String }
        "after our kill the last-flushed index cannot be read: {error}";

    RefusedAfterOwnCrash EngineUnreadable { error: String }
        "after our kill the engine cannot be opened: {error}";

    RefusedAfterOwnCrash RaftLogUnreadable { error: String }
        "after our kill the raft log cannot be read: {error}";

    IndexAheadOfEngine PersistedAheadOfEngine { persisted: Option<u64>, engine: Option<u64> }
        "the dead directory has N = {persisted} persisted, and its SSTs prove E = {engine}",
        persisted = or_nothing(*persisted), engine = or_nothing(*engine);

    PurgedAboveN PurgedAbovePersisted { purged: Option<u64>, persisted: Option<u64> }
        "the raft log is purged through {purged}, and N = {persisted}: what lies between is only \
         in memory",
        purged = or_nothing(*purged), persisted = or_nothing(*persisted);

    LostWrite AppliedBeyondLog { applied: Option<u64>, log_end: Option<u64> }
        "it had applied {applied} before our kill, and the dead log ends at {log_end}: apply waits \
         for the log",
        applied = or_nothing(*applied), log_end = or_nothing(*log_end);

    LostWrite EngineBeyondLog { engine: Option<u64>, log_end: Option<u64> }
        "its engine holds all entries to E = {engine}, the dead log ends at {log_end}, and no \
         snapshot was being installed: apply waits for the log",
        engine = or_nothing(*engine), log_end = or_nothing(*log_end);

    ReplayStart RecoveredOtherMark { mark: DeadWatermark, dead: Option<u64>, told: Option<u64> }
        "the dead directory has {mark} = {dead}, the next life found {told}",
        dead = or_nothing(*dead), told = or_nothing(*told);

    /// `damage`: what was done to its files while it was dead.
    LostWrite ForgotAfterDamage { damage: String, was: Option<u64>, is: Option<u64> }
        "it had acknowledged entries to {was}, and after a {damage} it started with a log that ends \
         at {is}",
        was = or_nothing(*was), is = or_nothing(*is);

    /// The entries that had to be verified, and those that were.
    ReplayStart VerifiedOtherEntries { expected: Option<Span>, found: Option<Span> }
        "(N, E] to verify is {expected}, verified was {found}",
        expected = or_nothing(*expected), found = or_nothing(*found);

    ReplayStart ScannedFromElsewhere { expected: u64, found: Option<u64> }
        "the scan must start at N+1 = {expected}, it started at {found}",
        found = or_nothing(*found);

    ReplayStart AppliedFromElsewhere { expected: u64, found: u64 }
        "the first entry applied must be E+1 = {expected}, it was {found}";

    ReplayStart AppliedBeyondLogAgain { first: u64, last: u64, log_last: Option<u64> }
        "entries {first} to {last} were applied again, and the log ended at {log_last}",
        log_last = or_nothing(*log_last);

    ReplayStart ReplayTooShort { applied: Option<u64>, engine: Option<u64>, replayed: Option<u64> }
        "it had applied {applied} before our kill, E = {engine}, and the replay ended at \
         {replayed}",
        applied = or_nothing(*applied), engine = or_nothing(*engine), replayed = or_nothing(*replayed);

    ReplayStart SnapshotNotAbove { snapshot: u64, persisted: Option<u64> }
        "a snapshot at {snapshot} was installed over N = {persisted}: it must be above",
        persisted = or_nothing(*persisted);

    ReplayStart VerifiedNoBeginning { found: Span, from: u64, engine: Option<u64> }
        "verified was {found}, expected a beginning of {from} to {engine}",
        engine = or_nothing(*engine);

    ReplayStart ScannedAsideOfSnapshot { expected: u64, snapshot: u64, found: u64 }
        "the scan must start at N+1 = {expected} or behind the snapshot at {snapshot}, not at \
         {found}";

    ReplayStart AppliedAsideOfSnapshot { expected: u64, snapshot: u64, found: u64 }
        "the first entry applied must be E+1 = {expected} or behind the snapshot at {snapshot}, \
         not {found}";

    ReplayStart RecoveryIncomplete {}
        "a fence above everything in its log is applied, and its recovery is not complete: entries \
         were skipped";

    ReplayStart MigrationClaims { claimed: Option<u64>, found: Option<u64> }
        "`migrate` claims the state of index {claimed}, and what lies there is of {found}",
        claimed = or_nothing(*claimed), found = or_nothing(*found);

    RefusedAfterOwnCrash UnreadableAfterMigration { after: Migration, store: Store, error: String }
        "{after} the {store} cannot be opened: {error}";

    RefusedAfterOwnCrash MigratedToAnother { to: Engine, found: Engine }
        "the migration to {to} ended with success, and what lies there is {found}";

    LostWrite MigrationLost { after: Migration, mark: DeadWatermark, was: Option<u64>, is: Option<u64> }
        "{after} {mark} is {is}, it was {was}", was = or_nothing(*was), is = or_nothing(*is);

    ReplayStart MigrationGained { after: Migration, mark: DeadWatermark, was: Option<u64>, is: Option<u64> }
        "{after} {mark} is {is}, it was {was}", was = or_nothing(*was), is = or_nothing(*is);

    VoteWentBack MigrationChangedVote { after: Migration, was: Option<Vote>, is: Option<Vote> }
        "{after} the vote is {is}, it was {was}", was = or_nothing(*was), is = or_nothing(*is);
}
