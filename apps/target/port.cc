#include "apps/target/port.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "mempool/base/check.h"

namespace runnel::target {

namespace {

using namespace std::chrono_literals;

// A client is looked at this often even when it says nothing: it may have shrunk its memory, or owe
// us something since a request that was answered late.
constexpr nanoseconds look_period = 50ms;

std::vector<block_device*> devices_with_dma(const subsystem& system) {
  std::vector<block_device*> devices;
  for (const exported_namespace& space : system.namespaces) {
    if (space.device->info().device_reads_memory) {
      devices.push_back(space.device);
    }
  }
  return devices;
}

std::vector<std::unique_ptr<io_core>> make_others(core_paths& paths, doorbell_mode doorbells) {
  std::vector<std::unique_ptr<io_core>> others;
  for (auto& each : std::span{paths}.subspan(1)) {
    others.push_back(
        std::make_unique<io_core>(std::move(each), doorbells != doorbell_mode::mapped));
  }
  return others;
}

std::vector<io_core*> borrow(const std::vector<std::unique_ptr<io_core>>& others) {
  std::vector<io_core*> borrowed;
  borrowed.reserve(others.size());
  for (const auto& each : others) {
    borrowed.push_back(each.get());
  }
  return borrowed;
}

}  // namespace

outcome<std::unique_ptr<port>> port::create(const std::string& socket_path, const subsystem& system,
                                            core_paths paths, port_options options) {
  outcome<vfio_user::listener> socket = vfio_user::listener::bind(socket_path);
  if (!socket) {
    return std::unexpected{std::move(socket.error())};
  }
  std::unique_ptr<port> made{
      new port{std::move(*socket), system, std::move(paths), std::move(options)}};
  auto server = vfio_user::server::create(made->endpoint_, {.name = "vfio-user:" + socket_path,
                                                            .maps_max = made->options_.maps_max,
                                                            .bus = made->options_.bus});
  if (!server) {
    return std::unexpected{std::move(server.error())};
  }
  made->server_ = std::move(*server);
  made->endpoint_.answer_through(*made->server_);
  return made;
}

port::port(vfio_user::listener socket, const subsystem& system, core_paths paths,
           port_options options)
    : socket_{std::move(socket)},
      options_{std::move(options)},
      paths_{std::move(paths.front())},
      others_{make_others(paths, options_.doorbells)},
      watch_{paths_},
      endpoint_{
          system, paths_, devices_with_dma(system),
          endpoint_options{
              .name = "vfio-user:" + socket_.path(),
              .controller = options_.controller,
              .doorbells = options_.doorbells,
              .others = borrow(others_),
              .on_trouble = [this](const failure& why) { tell(port_event::kind::trouble, &why); }}},
      listening_{[](void* self, instant) noexcept { return static_cast<port*>(self)->accept(); },
                 this, socket_.event_fd(), "listener"} {}

port::~port() {
  CHECK(core_ == nullptr);
}

void port::tell(port_event::kind what, const failure* why) {
  if (options_.on_event) {
    options_.on_event({.what = what, .port = socket_.path(), .why = why});
  }
}

void port::tell_left(const failure* why) {
  io_counters sum;
  for (std::size_t core = 0; core <= others_.size(); ++core) {
    sum += counters(core);
  }
  if (options_.on_event) {
    options_.on_event({.what = port_event::kind::client_left,
                       .port = socket_.path(),
                       .why = why,
                       .reads = sum.reads - told_.reads,
                       .writes = sum.writes - told_.writes});
  }
  told_ = sum;
}

result<> port::attach(reactor& core) {
  if (const result<> watched = core.add_service(listening_); !watched) {
    return watched;
  }
  core_ = &core;
  is_listening_ = true;
  core.add_source({.poll = [](void* self) noexcept { return static_cast<port*>(self)->poll(); },
                   .context = this,
                   .name = "nvme controller",
                   .arm = [](void* self) noexcept { return static_cast<port*>(self)->arm(); },
                   .disarm = [](void* self) noexcept { static_cast<port*>(self)->disarm(); }});
  watch_.attach(core);
  return {};
}

void port::detach() noexcept {
  if (core_ == nullptr) {
    return;
  }
  stop_listening();
  if (std::exchange(has_client_, false)) {
    core_->remove_service(*client_);
  }
  core_->remove_source(this);
  watch_.detach();
  core_ = nullptr;
}

void port::close() {
  closing_ = true;
  stop_listening();
  if (server_->state() == vfio_user::server_state::connected) {
    server_->disconnect(complaint({errc::cancelled}, "serve"));
  }
}

bool port::closed() const noexcept {
  return closing_ && !has_client_;
}

std::uint64_t port::payload_bytes_copied() const noexcept {
  const auto copied = [](std::span<const namespace_path> paths) {
    std::uint64_t sum = 0;
    for (const namespace_path& path : paths) {
      sum += path.queue->bytes_copied();
    }
    return sum;
  };
  std::uint64_t sum = copied(paths_);
  for (const auto& core : others_) {
    sum += copied(core->paths());
  }
  return sum;
}

std::uint32_t port::poll() noexcept {
  const std::uint32_t work = endpoint_.poll(core_->now());
  if (endpoint_.take_answered() || server_->state() == vfio_user::server_state::closing) {
    static_cast<void>(serve(core_->now()));  // the watch that is set goes on
  }
  return work;
}

bool port::arm() noexcept {
  return server_->state() != vfio_user::server_state::closing && endpoint_.arm() && watch_.arm();
}

void port::disarm() noexcept {
  watch_.disarm();
  endpoint_.disarm();
}

instant port::serve(instant now) {
  const instant next = server_->advance(now);
  if (server_->state() == vfio_user::server_state::idle) {
    dismiss();
    return never;
  }
  return std::min(next, now + look_period);
}

instant port::accept() {
  result<std::unique_ptr<vfio_user::channel>> client = socket_.accept();
  if (client) {
    accept_failed_ = false;
    if (*client != nullptr) {
      welcome(std::move(*client));
    }
  } else if (!accept_failed_) {
    accept_failed_ = true;  // told once; the socket stays readable and is tried again
    const failure why = complaint(client.error(), "accept a client");
    tell(port_event::kind::trouble, &why);
  }
  return never;
}

void port::welcome(std::unique_ptr<vfio_user::channel> client) {
  client_fd_.reset(::fcntl(client->event_fd(), F_DUPFD_CLOEXEC, 0));
  server_->attach(std::move(client));
  stop_listening();
  if (!watch_client(client_fd_.get())) {
    CHECK(watch_client(-1));  // looked at periodically instead
  }
  has_client_ = true;
  tell(port_event::kind::client_came, nullptr);
}

bool port::watch_client(int fd) {
  const auto look = [](void* self, instant now) noexcept {
    return static_cast<port*>(self)->serve(now);
  };
  client_.emplace(look, this, fd, "vfio-user client");
  return core_->add_service(*client_).has_value();
}

/// Runs within the client's service, so that stays an object until the next client comes.
void port::dismiss() {
  core_->remove_service(*client_);
  has_client_ = false;
  client_fd_.reset();
  const std::optional<failure>& end = server_->last_end();
  const bool by_itself = !end || (end->what.code == errc::device_gone && end->hint.empty());
  tell_left(by_itself ? nullptr : &*end);
  if (closing_) {
    return;
  }
  if (const result<> watched = core_->add_service(listening_); watched) {
    is_listening_ = true;
  } else {
    const failure why = complaint(watched.error(), "listen again");
    tell(port_event::kind::trouble, &why);
  }
}

void port::stop_listening() noexcept {
  if (std::exchange(is_listening_, false)) {
    core_->remove_service(listening_);
  }
}

failure port::complaint(error what, std::string operation) const {
  return {.what = what,
          .operation = std::move(operation),
          .object = "vfio-user:" + socket_.path(),
          .hint = {}};
}

}  // namespace runnel::target
