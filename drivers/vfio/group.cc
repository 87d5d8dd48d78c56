#include "drivers/vfio/group.h"

#include <cerrno>
#include <utility>

#include "drivers/vfio/open_hint.h"
#include "mempool/base/check.h"

namespace runnel::vfio {
namespace {

[[nodiscard]] std::string hint_of(error what) {
  switch (what.code == errc::os ? static_cast<int>(what.detail) : 0) {
    case ENODEV:
      return "it is not bound to vfio-pci: run `runnel bind`";
    case EACCES:
      return "it is a virtual function, and its physical function has another token";
    case EBUSY:
      return "another process has it open";
    case EADDRINUSE:  // these two where an iommufd is the container
      return "it reaches less than what others have mapped already: name it first";
    case EPERM:
      return iommu_hint(what);
    default:
      return {};
  }
}

/// Has the group open the device, which resets it. A descriptor of its own keeps the group.
class group_opening final : public device_opening {
 public:
  group_opening(shared_group group, std::string name, std::string object)
      : group_{std::move(group)}, name_{std::move(name)}, object_{std::move(object)} {}

  [[nodiscard]] outcome<attached_device> open() override {
    auto opened = group_.open_device(name_);
    if (!opened) {
      return fail(opened.error(), "open", object_, hint_of(opened.error()));
    }
    return std::move(*opened);
  }

 private:
  shared_group group_;
  std::string name_;
  std::string object_;
};

}  // namespace

group_opener::group_opener(container_domain& domain, group_device device)
    : domain_{&domain},
      share_{domain},
      device_{std::move(device)},
      object_{"pci:" + device_.address} {}

void group_opener::let_go() noexcept {
  share_.let_go();
  if (std::exchange(joined_, false)) {
    domain_->leave(device_.group);
  }
}

outcome<std::unique_ptr<device_opening>> group_opener::prepare() {
  CHECK(!joined_);
  const auto group = domain_->join(device_.group, device_.address);
  if (!group) {
    return std::unexpected{group.error()};
  }
  joined_ = true;
  auto own = (*group)->duplicate();
  if (!own) {
    return fail(own.error(), "open", object_, "raise the limit of open files: `ulimit -n`");
  }
  std::string name = device_.address;
  if (!device_.token.empty()) {
    name += " vf_token=" + device_.token;
  }
  return std::make_unique<group_opening>(std::move(*own), std::move(name), object_);
}

}  // namespace runnel::vfio
