use svidecar_process::clock;
use tokio::sync::mpsc;

use super::*;

const LO: (&str, bool) = ("lo", false);
const ETH0: (&str, bool) = ("eth0", true);

/// Plays looks at these interfaces, one after each change; the last look is repeated. Says how long it took until the
/// network was lost, if it ever was.
async fn play(looks: &[&[(&str, bool)]], every: Duration) -> Option<(Vec<String>, Duration)> {
    let begin = clock::timer();
    let (sender, mut changes) = mpsc::channel::<()>(16);
    let count = looks.len();
    tokio::spawn(async move {
        for _ in 1..count {
            tokio::time::sleep(every).await;
            sender.send(()).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let mut looks = looks.iter();
    let mut last: &[(&str, bool)] = &[];
    let look = move || {
        last = looks.next().copied().unwrap_or(last);
        Ok(last.iter().map(|&(name, connects)| Link { name: name.to_owned(), connects }).collect())
    };
    let mut interfaces = Interfaces::default();
    let changed = async || changes.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into());
    let waited = lost(&mut interfaces, changed, look, GRACE);
    let names = tokio::time::timeout(Duration::from_secs(3600), waited).await.ok()?;
    Some((names, clock::timer() - begin))
}

#[tokio::test(start_paused = true)]
async fn the_last_interface_that_goes_is_a_lost_network_after_the_grace() {
    let second = Duration::from_secs(1);
    let (names, after) =
        play(&[&[LO, ETH0, ("eth1", true)], &[LO, ("eth1", true)], &[LO]], second).await.unwrap();
    assert_eq!(names, ["eth0", "eth1"]);
    assert_eq!(after, 2 * second + GRACE);
}

/// Changes while it is away do not make the wait longer.
#[tokio::test(start_paused = true)]
async fn other_changes_do_not_put_the_end_off() {
    let second = Duration::from_secs(1);
    let tunnel = ("tunl0", false);
    let (names, after) =
        play(&[&[LO, ETH0], &[LO], &[LO, tunnel], &[LO], &[LO, tunnel]], second).await.unwrap();
    assert_eq!((names, after), (vec!["eth0".to_owned()], second + GRACE));
}

#[tokio::test(start_paused = true)]
async fn a_network_that_comes_back_in_time_is_not_lost() {
    let almost = GRACE - Duration::from_millis(1);
    assert_eq!(play(&[&[LO, ETH0], &[LO], &[LO, ("eth1", true)]], almost).await, None);
}

/// A namespace of its own without interfaces, or with the tunnels that the kernel puts into each.
#[tokio::test(start_paused = true)]
async fn what_was_never_there_is_not_lost() {
    let second = Duration::from_secs(1);
    assert_eq!(play(&[&[LO], &[LO, ("sit0", false)], &[LO]], second).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_is_set_down_is_not_lost() {
    assert_eq!(play(&[&[LO, ETH0], &[LO, ("eth0", false)]], Duration::from_secs(1)).await, None);
}

/// The kernel lists at least the loopback, which connects nobody.
#[test]
fn the_system_lists_its_interfaces() {
    let links = links().unwrap();
    assert!(links.iter().any(|link| link.name == "lo" && !link.connects));
}

#[tokio::test]
async fn the_kernel_lets_us_subscribe() {
    NetworkWatch::start().unwrap();
}
