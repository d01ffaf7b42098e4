//! Stopped, crashed and killed runs end in the same bits as one that was left alone.

use super::*;
use crate::error::Kind;
use crate::train::pretrain::Reason;

#[test]
fn a_stopped_run_continues_bit_for_bit() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (root.path().join("a"), root.path().join("b"));
    let outcome = train(&settings(&a, 20)).unwrap();
    assert_eq!((outcome.reason, outcome.step), (Reason::Steps, 20));
    for stop in [10, 13] {
        let mut observer = |event: &Event<'_>| match event {
            Event::Step(report) if report.step == stop => Control::Stop,
            _ => Control::Continue,
        };
        let outcome =
            Trial::default().train(&settings(&b, 20), Disk::default(), &mut observer).unwrap();
        assert_eq!((outcome.reason, outcome.step), (Reason::Asked, stop));
    }
    let mut resumed = None;
    let mut observer = |event: &Event<'_>| {
        if let Event::Started { step, .. } = event {
            resumed = Some(*step);
        }
        Control::Continue
    };
    Trial::default().train(&settings(&b, 20), Disk::default(), &mut observer).unwrap();
    assert_eq!(resumed, Some(13));
    let (x, y) = (result(&a), result(&b));
    assert_eq!(x.0.keys().collect::<Vec<_>>(), ["optimizer.safetensors", "state.json", "weights"]);
    assert!(x == y);
    assert_eq!(x.1.len(), 25, "20 steps and evaluations after 4, 8, 12, 16, 20");
    // The training did something, and a finished run changes nothing when started again.
    assert!(x.1[0].loss.unwrap() > 2.0 * x.1[23].loss.unwrap(), "{:?}", x.1);
    assert_eq!(train(&settings(&b, 20)).unwrap().step, 20);
    assert!(result(&b) == y);
}

/// The comparison above can fail: it sees one lost moment, one skipped batch and one lost line.
#[test]
fn spoiled_state_is_seen() {
    let root = tempfile::tempdir().unwrap();
    let straight = root.path().join("straight");
    train(&settings(&straight, 12)).unwrap();
    let expected = result(&straight);
    type Spoil = fn(&Path, &Path);
    let spoils: [(&str, Spoil); 4] = [
        ("nothing", |_, _| {}),
        ("a moment", |step, _| {
            let path = step.join("optimizer.safetensors");
            let mut bytes = std::fs::read(&path).unwrap();
            let end = bytes.len();
            bytes[end - 4..].fill(0);
            std::fs::write(path, bytes).unwrap();
        }),
        ("the position", |step, _| {
            let path = step.join("state.json");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace("\"step\": 7", "\"step\": 8")).unwrap();
        }),
        ("a line", |_, root| {
            let path = root.join("metrics.jsonl");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, &text[text.find('\n').unwrap() + 1..]).unwrap();
        }),
    ];
    for (name, spoil) in spoils {
        let folder = root.path().join(name);
        let mut observer = |event: &Event<'_>| match event {
            Event::Step(report) if report.step == 7 => Control::Stop,
            _ => Control::Continue,
        };
        let run = settings(&folder, 12);
        Trial::default().train(&run, Disk::default(), &mut observer).unwrap();
        spoil(&resume::find(&folder, "last").unwrap(), &folder);
        train(&run).unwrap();
        assert_eq!(result(&folder) == expected, name == "nothing", "{name}");
    }
}

#[test]
fn the_plug_may_be_pulled_before_any_file_operation() {
    let root = tempfile::tempdir().unwrap();
    let straight = root.path().join("straight");
    train(&settings(&straight, 8)).unwrap();
    let expected = result(&straight);
    let mut crashes = 0;
    for plug in 0.. {
        let folder = root.path().join(format!("plug{plug}"));
        let run = settings(&folder, 8);
        let first = Trial::default().train(&run, Disk::with_plug(plug), &mut quiet);
        let Err(error) = first else { break };
        assert_eq!(error.kind(), Kind::Interrupted, "{error}");
        crashes += 1;
        // A second crash, soon after the restart.
        let _ = Trial::default().train(&run, Disk::with_plug(plug % 23), &mut quiet);
        train(&run).unwrap();
        assert!(result(&folder) == expected, "operation {plug}");
        let names = Disk::default().list(&folder).unwrap();
        assert!(!names.iter().any(|n| n.ends_with(".tmp")), "{names:?}");
        assert_eq!(resume::find(&folder, "best").unwrap().file_name().unwrap(), "step-00000008");
    }
    assert!(crashes > 60, "{crashes}");
}

const CHILD: &str = "PELLUCID_TEST_KILLED_FOLDER";

/// Not a test of its own: the process that the next test kills.
#[test]
fn killed_child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let mut slow = |_: &Event<'_>| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        Control::Continue
    };
    let mut run = settings(Path::new(&folder), 60);
    run.checkpoint.every = 1;
    run.log.tensorboard = true;
    Trial::default().train(&run, Disk::default(), &mut slow).unwrap();
}

#[test]
fn kill_minus_nine_at_any_moment_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (root.path().join("a"), root.path().join("b"));
    let mut run = settings(&a, 60);
    run.checkpoint.every = 1;
    train(&run).unwrap();
    let mut random = Random::new(3, 0);
    let mut kills = 0;
    for _ in 0..200 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "train::tests::continue_tests::killed_child"])
            .env(CHILD, &b)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let wait = std::time::Duration::from_millis(20 + random.below(120) as u64);
        std::thread::sleep(wait);
        if kills < 12 && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            continue;
        }
        if child.wait().unwrap().success() {
            break;
        }
    }
    assert!(kills >= 3, "only {kills} kills");
    assert!(result(&a) == result(&b));
}
