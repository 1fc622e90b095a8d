"""What a subscription watches, with the bounds and the care for events that the OPC UA library lacks.

The library's items take any filter and fail when they are told by it, keep as many as are asked for, and lose the first
of two events that come at once when a client asks for a queue of one.
"""

from __future__ import annotations

from typing import Any

from asyncua import ua
from asyncua.server.monitored_item_service import MonitoredItemService
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from bridge.outputs.opcua.filters import MAX_FIELDS, Notice, is_legible, passes
from bridge.outputs.opcua.values import status_code

MAX_ITEMS = 1_000
MAX_EVENT_ITEMS = 10
EVENT_QUEUE = 1_000


class StationItems(MonitoredItemService):
    """The monitored items of one subscription: at most 1,000, of events 10, each with a queue of 1,000."""

    @property
    def hears_events(self) -> bool:
        """Whether any item asks for events."""
        return bool(self._monitored_events)

    @property
    def numbers(self) -> frozenset[int]:
        """The ids of the items."""
        return frozenset(self._monitored_items)

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """Create the items that are within bounds and can be understood; each gets an answer of its own."""
        answers = []
        for each in params.ItemsToCreate:
            fault = self._fault(each)
            if fault is None:
                one = ua.CreateMonitoredItemsParameters(SubscriptionId=params.SubscriptionId, ItemsToCreate=[each])
                answers += await super().create_monitored_items(one)
            else:
                answers.append(ua.MonitoredItemCreateResult(StatusCode=status_code(fault)))
        return answers

    def _fault(self, item: ua.MonitoredItemCreateRequest) -> int | None:
        """Give the status code by which an item can't be had; what it asks of its queue is revised."""
        asked = item.RequestedParameters
        asked.Filter = _given(asked.Filter)
        if len(self._monitored_items) >= MAX_ITEMS:
            return int(StatusCodes.BadTooManyMonitoredItems)
        if item.ItemToMonitor.AttributeId != AttributeIds.EventNotifier:
            return _filter_fault(asked.Filter, item.ItemToMonitor.AttributeId)
        asked.QueueSize = EVENT_QUEUE
        if sum(len(each) for each in self._monitored_events.values()) >= MAX_EVENT_ITEMS:
            return int(StatusCodes.BadTooManyMonitoredItems)
        return _filter_fault(asked.Filter, AttributeIds.EventNotifier)

    def _modify_monitored_item(self, params: Any) -> ua.MonitoredItemModifyResult:
        """Give an item another queue and filter, by the rules under which it was made."""
        item = self._monitored_items.get(params.MonitoredItemId)
        if item is None or item.read_value_id is None:
            return ua.MonitoredItemModifyResult(StatusCode=status_code(StatusCodes.BadMonitoredItemIdInvalid))
        asked, attribute = params.RequestedParameters, item.read_value_id.AttributeId
        asked.Filter = _given(asked.Filter)
        of_events = attribute == AttributeIds.EventNotifier
        fault = _filter_fault(asked.Filter, attribute)
        if fault is not None:
            return ua.MonitoredItemModifyResult(StatusCode=status_code(fault))
        item.filter = asked.Filter
        item.client_handle = asked.ClientHandle
        item.queue_size = EVENT_QUEUE if of_events else self._revise_queue_size(asked.QueueSize)
        return ua.MonitoredItemModifyResult(
            RevisedSamplingInterval=self.isub.data.RevisedPublishingInterval, RevisedQueueSize=item.queue_size
        )

    async def tell(self, notice: Notice, *, only: int | None = None, filtered: bool = True) -> None:
        """Queue an event for every item that hears one of its sources, once each; `only` is one item's id."""
        for source in notice.sources:
            for number in tuple(self._monitored_events.get(source, ())):
                item = self._monitored_items.get(number)
                if item is None or item.mode == ua.MonitoringMode.Disabled or only not in {None, number}:
                    continue
                if filtered and not passes(item.filter.WhereClause, notice):
                    continue
                fields = [notice.select(each) for each in item.filter.SelectClauses]
                told = ua.EventFieldList(ClientHandle=item.client_handle, EventFields=fields)
                await self.isub.enqueue_event(number, told, item.queue_size)


def _given(asked: Any) -> Any:
    """Give a filter as it was asked for; the library reads an absent one as an object without a type."""
    return None if isinstance(asked, ua.ExtensionObject) and not asked.TypeId.Identifier else asked


def _filter_fault(asked: Any, attribute: int) -> int | None:
    """Give the status code of a filter that doesn't fit what is watched, None when it does."""
    if attribute != AttributeIds.EventNotifier:
        return None if asked is None or isinstance(asked, ua.DataChangeFilter) else int(StatusCodes.BadFilterNotAllowed)
    if not isinstance(asked, ua.EventFilter):
        return int(StatusCodes.BadEventFilterInvalid)
    if not asked.SelectClauses or len(asked.SelectClauses) > MAX_FIELDS or not is_legible(asked.WhereClause):
        return int(StatusCodes.BadEventFilterInvalid)
    return None
