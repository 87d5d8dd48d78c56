#include <fcntl.h>

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "drivers/vfio_user/channel.h"
#include "mempool/base/check.h"
#include "mempool/base/units.h"

// A channel in memory: what one end sends waits in the other end's inbox. How it is cut into pieces
// follows from the seed alone, so a failing test fails again.
namespace runnel::vfio_user {
namespace {

constexpr std::size_t inbox_bytes_max = 64 * kib;

/// splitmix64: tiny, seeded, good enough to cut with.
class random_source {
 public:
  explicit random_source(std::uint64_t seed) noexcept : state_{seed} {}

  /// A number in [0, limit). @pre limit > 0
  std::size_t below(std::size_t limit) noexcept {
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return (z ^ (z >> 31U)) % limit;
  }

 private:
  std::uint64_t state_;
};

class memory_channel final : public channel {
 public:
  explicit memory_channel(std::uint64_t seed) noexcept : random_{seed} {}
  memory_channel(const memory_channel&) = delete;
  memory_channel& operator=(const memory_channel&) = delete;
  ~memory_channel() override { memory_channel::hang_up(); }

  void join(memory_channel& peer) noexcept {
    peer_ = &peer;
    peer.peer_ = this;
  }

  result<std::size_t> send(std::span<const std::byte> bytes,
                           std::span<const int> fds) noexcept override {
    if (peer_ == nullptr) {
      return fail(errc::device_gone);
    }
    const std::size_t piece = cut(std::min(bytes.size(), inbox_bytes_max - peer_->inbox_.size()));
    if (piece == 0) {
      return std::size_t{0};
    }
    for (const int fd : fds) {
      unique_fd copy{::fcntl(fd, F_DUPFD_CLOEXEC, 0)};
      if (!copy) {
        return std::unexpected{os_error()};
      }
      peer_->inbox_fds_.push_back(
          {.at = peer_->bytes_read_ + peer_->inbox_.size(), .fd = std::move(copy)});
    }
    const auto taken = bytes.first(piece);
    peer_->inbox_.insert(peer_->inbox_.end(), taken.begin(), taken.end());
    return piece;
  }

  result<std::size_t> receive(std::span<std::byte> into, fd_list& fds) noexcept override {
    CHECK(!into.empty());
    if (inbox_.empty() && peer_ == nullptr) {
      return fail(errc::device_gone);  // what was sent before the peer left has been read
    }
    const std::size_t piece = cut(std::min(into.size(), inbox_.size()));
    const auto end = inbox_.begin() + static_cast<std::ptrdiff_t>(piece);
    std::copy(inbox_.begin(), end, into.begin());
    inbox_.erase(inbox_.begin(), end);
    bytes_read_ += piece;
    bool all_fit = true;
    while (!inbox_fds_.empty() && inbox_fds_.front().at < bytes_read_) {
      if (fds.count == fds.fds.size()) {
        all_fit = false;
      } else {
        fds.fds[fds.count++] = std::move(inbox_fds_.front().fd);
      }
      inbox_fds_.pop_front();
    }
    return all_fit ? result<std::size_t>{piece} : fail(errc::protocol);
  }

  void hang_up() noexcept override {
    if (peer_ != nullptr) {
      std::exchange(peer_, nullptr)->peer_ = nullptr;
    }
  }

  int event_fd() const noexcept override { return -1; }

 private:
  struct travelling_fd {
    std::uint64_t at = 0;  // position in the stream of the byte it goes with
    unique_fd fd;
  };

  /// How many of `available` bytes move now: often fewer than could, sometimes none.
  std::size_t cut(std::size_t available) noexcept {
    if (available == 0 || random_.below(8) == 0) {
      return 0;
    }
    return random_.below(2) == 0 ? available : 1 + random_.below(available);
  }

  memory_channel* peer_ = nullptr;  // gone: null
  random_source random_;
  std::vector<std::byte> inbox_;
  std::deque<travelling_fd> inbox_fds_;
  std::uint64_t bytes_read_ = 0;
};

}  // namespace

std::pair<std::unique_ptr<channel>, std::unique_ptr<channel>> memory_channel_pair(
    std::uint64_t seed) {
  auto one = std::make_unique<memory_channel>(seed);
  auto other = std::make_unique<memory_channel>(~seed);
  one->join(*other);
  return {std::move(one), std::move(other)};
}

}  // namespace runnel::vfio_user
