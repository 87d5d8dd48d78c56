// Goal: no client, whatever it sends and when, breaks the server or the model behind it. Method:
// the input is a program of a client: messages right and wrong, with descriptors right and wrong,
// cut into pieces, sent together or one by one, while the model is late; both of our models are
// served. Checked: no crash, well-formed answers, and an idle server when the client has left.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "drivers/nvme/spec.h"
#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio_user/message_reader.h"
#include "drivers/vfio_user/protocol.h"
#include "drivers/vfio_user/server.h"
#include "mempool/base/check.h"
#include "tests/fuzz/byte_program.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/served_models.h"

namespace runnel::fuzz {
namespace {

using namespace std::chrono_literals;
using namespace vfio_user;
namespace uapi = vfio::uapi;

constexpr std::uint64_t ram_iova = 0x10'0000'0000;
constexpr unsigned sends_max = 64;        // before a server that does not listen is given up
constexpr unsigned turns_to_idle = 2000;  // more than any teardown needs

using byte_vector = std::vector<std::byte>;

void append(byte_vector& to, std::span<const std::byte> bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

class client {
 public:
  explicit client(byte_program program) : program_{program} {
    shared_files().clear();
    const std::uint32_t kind = program_.below(8);
    if (kind < 3) {
      model_ = std::make_unique<served_echo>();
    } else {
      auto nvme = std::make_unique<served_nvme>(kind == 7 ? target::doorbell_mode::mapped
                                                          : target::doorbell_mode::shadow);
      nvme_ = nvme.get();
      model_ = std::move(nvme);
    }
    server_ = std::move(*server::create(model_->device(), {.unmaps_max = 2}));
    if (nvme_ != nullptr) {
      nvme_->attach(*server_);
    }
    connect();
  }

  void run() {
    while (!program_.empty()) {
      step();
    }
    link_.reset();
    model_->behave(*server_);
    for (unsigned i = 0; i < turns_to_idle && server_->state() != server_state::idle; ++i) {
      turn();
      if (dma_) {
        static_cast<void>(server_->take(*dma_));
      }
    }
    CHECK(server_->state() == server_state::idle);
  }

 private:
  void connect() {
    auto [ours, theirs] = memory_channel_pair(program_.take_byte());
    link_ = std::move(ours);
    reader_.emplace();
    server_->attach(std::move(theirs));
    if (!program_.rarely(16)) {
      send(command::version, wire_bytes(version_numbers{}));
    }
  }

  void turn() {
    now_ += 10us;
    model_->poll(now_);
    server_->advance(now_);
  }

  void step() {
    switch (program_.below(16)) {
      case 0:
      case 1:
        return map();
      case 2:
        return unmap();
      case 3:
        return read_region();
      case 4:
        return write_region();
      case 5:
        return set_interrupts();
      case 6:
        return ask();
      case 7:
        return use_feature();
      case 8:
        return send_odd();
      case 9:
        return start_dma();
      case 10:
        return leave();
      case 11:
        return model_->disturb(program_, *server_);
      case 12:
        return enable_controller();
      case 13:
        return submit_command();
      case 14:
        now_ += program_.pick(std::array<nanoseconds, 3>{1ms, 1s, 6s});
        return turns();
      default:
        return turns();
    }
  }

  void turns() {
    for (std::uint32_t left = 1 + program_.below(8); left > 0; --left) {
      turn();
      listen();
    }
  }

  /// Reads what the server says: whole messages, until it says no more or is gone.
  void listen() {
    while (link_) {
      const auto whole = reader_->receive(*link_);
      if (!whole) {
        CHECK(whole.error().code == errc::device_gone);
        link_.reset();
      } else if (!*whole) {
        return;
      } else if (!reader_->head().is_reply()) {
        answer_dma(reader_->head());
      }
    }
  }

  /// The server's wish for our memory, granted in full, in part or not at all.
  void answer_dma(const header& asked) {
    const auto wish = read_wire<dma_access_payload>(reader_->payload());
    CHECK(wish.has_value());
    byte_vector payload;
    append(payload, wire_bytes(*wish));
    payload.resize(payload.size() + (asked.what == command::dma_read ? wish->count : 0));
    if (program_.rarely(4)) {
      payload.resize(program_.below(64));
    }
    header head = reply_header(asked, payload.size());
    if (program_.rarely(4)) {
      head = error_header(asked, 5);
      payload.clear();
    }
    send_message(head, payload, {});
  }

  void send(command what, std::span<const std::byte> payload, std::span<const int> fds = {}) {
    const bool wants_reply = !program_.rarely(8);
    send_message(command_header(next_id_++, what, payload.size(), wants_reply), payload, fds);
  }

  void send_message(const header& head, std::span<const std::byte> payload,
                    std::span<const int> fds) {
    wire_.clear();
    append(wire_, wire_bytes(head));
    append(wire_, payload);
    send_bytes(wire_, fds);
    if (program_.below(4) != 0) {
      turn();
      turn();
    }
  }

  void send_bytes(std::span<const std::byte> left, std::span<const int> fds) {
    for (unsigned attempt = 0; attempt < sends_max && link_ && !left.empty(); ++attempt) {
      const auto sent = link_->send(left, fds);
      if (!sent) {
        link_.reset();
        return;
      }
      if (*sent != 0) {
        fds = {};
        left = left.subspan(*sent);
      } else {
        turn();
      }
    }
  }

  /// A structure's length, or another.
  [[nodiscard]] std::uint32_t argsz(std::size_t right) {
    return program_.rarely(16) ? program_.take<std::uint32_t>() : static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] std::uint64_t any_size() {
    return program_.rarely(8) ? program_.take_near(0) : 4096ULL * (1 + program_.below(16));
  }
  [[nodiscard]] std::uint64_t any_iova() {
    return program_.rarely(8) ? program_.take_near(ram_iova)
                              : ram_iova + 4096ULL * program_.below(32);
  }

  void map() {
    constexpr std::array<std::uint32_t, 6> rights{3, 3, 1, 2, 7, 0};
    const std::array all = shared_files().all();
    const std::array fds{program_.pick(all), program_.pick(all)};
    const std::size_t fd_count = program_.pick(std::array<std::size_t, 4>{1, 1, 0, 2});
    dma_map_payload wish{.argsz = argsz(sizeof wish), .flags = program_.pick(rights)};
    if (program_.below(2) == 0) {
      wish.iova = ram_iova;
      wish.size = files::ram_bytes;
    } else {
      wish.iova = any_iova();
      wish.size = any_size();
      wish.offset = program_.rarely(4) ? program_.take_near(0) : 4096ULL * program_.below(4);
    }
    send(command::dma_map, wire_bytes(wish), std::span{fds}.first(fd_count));
  }
  void unmap() {
    const bool all = program_.below(4) == 0;
    dma_unmap_payload wish{.argsz = argsz(sizeof wish), .flags = all ? 2U : 0U};
    if (!all || program_.rarely(4)) {
      wish.iova = any_iova();
      wish.size = any_size();
    }
    send(command::dma_unmap, wire_bytes(wish));
  }

  [[nodiscard]] region_access_payload any_access() {
    constexpr std::array<std::uint32_t, 6> regions{0, 7, 4, 5, 1, 9};
    const std::uint64_t edge = program_.pick(std::array<std::uint64_t, 4>{0, 0x1000, 0x80, 0x4000});
    return {
        .offset = program_.rarely(8) ? program_.take<std::uint64_t>() : edge + program_.take_byte(),
        .region = program_.pick(regions),
        .count = program_.rarely(8) ? program_.take<std::uint32_t>() : 1U + program_.below(64)};
  }
  void read_region() { send(command::region_read, wire_bytes(any_access())); }
  void write_region() {
    region_access_payload access = any_access();
    const auto data = program_.take_blob();
    if (!program_.rarely(8)) {
      access.count = static_cast<std::uint32_t>(data.size());
    }
    byte_vector payload;
    append(payload, wire_bytes(access));
    append(payload, data);
    send(command::region_write, payload);
  }
  void write_word(std::uint32_t region, std::uint64_t offset, std::uint64_t value,
                  std::uint32_t bytes) {
    byte_vector payload;
    append(payload,
           wire_bytes(region_access_payload{.offset = offset, .region = region, .count = bytes}));
    append(payload, wire_bytes(value).first(bytes));
    send(command::region_write, payload);
  }

  void set_interrupts() {
    constexpr std::array<std::uint32_t, 8> flags{0x24, 0x24, 0x21, 0x11, 0x09, 0x22, 0x12, 0x14};
    constexpr std::array<std::uint32_t, 4> indexes{2, 0, 3, 9};
    uapi::irq_set wish{
        .argsz = argsz(sizeof wish),
        .flags = program_.rarely(16) ? program_.take<std::uint32_t>() : program_.pick(flags),
        .index = program_.pick(indexes),
        .start = program_.rarely(4) ? program_.take_byte() : std::uint32_t{0},
        .count = program_.below(22)};
    std::array<int, message_fds_max + 1> fds{};
    const std::array all = shared_files().all();
    const int fd = program_.rarely(8) ? program_.pick(all) : shared_files().event_fd();
    fds.fill(fd);
    const bool none = program_.rarely(4);
    const std::size_t count = std::min<std::size_t>(wish.count, fds.size());
    byte_vector payload;
    append(payload, wire_bytes(wish));
    append(payload, program_.take_bytes(program_.below(4)));
    send(command::device_set_irqs, payload, std::span{fds}.first(none ? 0 : count));
  }

  void ask() {
    const std::uint32_t index = program_.below(12);
    switch (program_.below(4)) {
      case 0:
        return send(command::device_get_info,
                    wire_bytes(device_info_payload{.argsz = argsz(sizeof(device_info_payload))}));
      case 1:
        return send(
            command::device_get_irq_info,
            wire_bytes(uapi::irq_info{.argsz = argsz(16), .flags = 0, .index = index, .count = 0}));
      case 2:
        return send(command::device_reset, {});
      default:
        return send(command::device_get_region_info,
                    wire_bytes(uapi::region_info{.argsz = argsz(program_.below(2) == 0 ? 32 : 4064),
                                                 .flags = 0,
                                                 .index = index,
                                                 .cap_offset = 0,
                                                 .size = 0,
                                                 .offset = 0}));
    }
  }

  void use_feature() {
    constexpr std::array<std::uint32_t, 6> numbers{0x7000, 1, 2, 6, 8, 9};
    const auto data = program_.take_bytes(program_.below(40));
    byte_vector payload;
    append(payload, wire_bytes(uapi::device_feature{
                        .argsz = argsz(sizeof(uapi::device_feature) + data.size()),
                        .flags = program_.pick(numbers) | program_.below(16) << 16U}));
    append(payload, data);
    send(command::device_feature, payload);
  }

  /// Something that begins like a message, or nothing of the kind.
  void send_odd() {
    const auto payload = program_.take_blob();
    if (program_.below(2) == 0) {
      send_bytes(payload, {});
      return;
    }
    header head = command_header(program_.take<std::uint16_t>(), command{program_.take_byte()},
                                 payload.size());
    head.flags = program_.take_byte();
    head.size += program_.rarely(4) ? program_.take<std::uint32_t>() : 0;
    const std::array fds{program_.pick(shared_files().all())};
    send_message(head, payload, std::span{fds}.first(program_.rarely(4) ? 1 : 0));
  }

  /// The model reads or writes by messages.
  void start_dma() {
    if (dma_) {
      if (server_->take(*dma_)) {
        dma_.reset();
      }
      return;
    }
    const std::span bytes = std::span{dma_bytes_}.first(program_.below(64));
    const iova first{any_iova()};
    const auto started =
        program_.below(2) == 0 ? server_->dma_read(first, bytes) : server_->dma_write(first, bytes);
    if (started) {
      dma_ = *started;
    }
  }

  void leave() {
    link_.reset();
    turns();
    if (server_->state() == server_state::idle) {
      dma_.reset();
      connect();
    }
  }

  /// As a driver does: bus mastering, admin queues in the first pages, CC.EN.
  void enable_controller() {
    using nvme::reg;
    const std::uint64_t queues = ram_iova + 4096ULL * program_.below(4);
    write_word(7, 4, 0x0006, 2);
    write_word(0, static_cast<std::uint64_t>(reg::aqa), nvme::admin_queue_attributes(16, 16), 4);
    write_word(0, static_cast<std::uint64_t>(reg::asq), queues, 8);
    write_word(0, static_cast<std::uint64_t>(reg::acq), queues + 4096, 8);
    write_word(0, static_cast<std::uint64_t>(reg::cc), nvme::enabled_configuration(4096), 4);
    turns();
    tails_ = {};
    queues_at_ = queues;
  }

  /// Of the admin queue, or of the first I/O queue once an admin command has made it.
  void submit_command() {
    const std::uint32_t queue = program_.below(2);
    nvme::submission_entry entry{};
    entry.opcode = static_cast<std::uint8_t>(program_.below(queue == 0 ? 13 : 3));
    entry.command_id = next_id_;
    entry.nsid = 1;
    entry.prp1 = any_iova();
    entry.prp2 = any_iova();
    entry.cdw10 = queue == 0 ? 1U | 15U << 16U : program_.take_byte();
    entry.cdw11 = queue == 0 ? 3U | (entry.opcode == 1 ? 1U << 16U : 0) : 0;
    entry.cdw12 = queue == 0 ? 0 : program_.below(32);
    if (queue == 0 && entry.opcode == 1) {
      entry.prp1 = queues_at_ + 2 * 4096ULL;
    }
    const std::uint64_t ring = queues_at_ - ram_iova + (queue == 0 ? 0 : 2 * 4096ULL);
    const std::uint32_t tail = tails_[queue]++ % 16;
    std::memcpy(shared_files().ram().data() + ring + tail * sizeof entry, &entry, sizeof entry);
    write_word(0, 0x1000 + 128ULL * queue, (tail + 1) % 16, 4);
  }

  byte_program program_;
  std::unique_ptr<served_model> model_;
  served_nvme* nvme_ = nullptr;
  std::unique_ptr<server> server_;
  std::unique_ptr<channel> link_;
  std::optional<message_reader> reader_;
  byte_vector wire_;  // the message that is sent
  std::optional<ticket> dma_;
  std::array<std::byte, 64> dma_bytes_{};
  std::array<std::uint32_t, 2> tails_{};
  std::uint64_t queues_at_ = ram_iova;
  instant now_{1s};
  std::uint16_t next_id_ = 1;
};

}  // namespace
}  // namespace runnel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  runnel::fuzz::client{runnel::fuzz::byte_program{{data, size}}}.run();
  return 0;
}
