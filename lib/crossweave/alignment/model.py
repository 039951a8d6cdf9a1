"""The alignment model: projectors → fusion → item vectors, a user tower over them, and a head that scores both.

Shape letters: B batch, D dim of the model, E dim of the head's product, M modalities, Q variants, R pairs, S items of
one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossweave.alignment import FUSIONS, HEADS, LOSSES, USER_TOWERS, build
from crossweave.alignment.attention import TargetAware
from crossweave.alignment.heads.base import Head
from crossweave.alignment.histories import Histories
from crossweave.alignment.losses.base import AlignmentLoss, Choices, ContentLoss, Peers
from crossweave.alignment.sides import Targets, Users
from crossweave.alignment.spec import ModelSpec
from crossweave.alignment.user_parts import UserAttributes, UserBatch, UserIds


def is_product(head: type[Head], user_tower: type[nn.Module]) -> bool:
    """Say whether a head with a user tower scores by one product of vectors, and nothing beyond."""
    return head.product and not issubclass(user_tower, TargetAware)


@dataclass(frozen=True)
class ItemBatch:
    """Items as the model takes them."""

    index_S: Tensor  # int64, rows of the item index
    vectors: Mapping[str, Tensor]  # modality -> float32 [S, its dim]; whatever where it is missing
    present_SM: Tensor  # bool
    known_S: Tensor  # bool: was there a training interaction, so that the id vector means something


@dataclass(frozen=True)
class ItemVectors:
    """What the item tower says about S items."""

    tokens_SMD: Tensor  # normed as the spec says; zero where the modality is missing
    present_SM: Tensor  # after modality dropout
    target_SD: Tensor  # as a recommendation, before the head
    bias_S: Tensor
    history_SD: Tensor  # as part of a history


class UnitNorm(nn.Module):
    """Vectors of length 1."""

    def forward(self, vectors_SD: Tensor) -> Tensor:
        """Return the vectors divided by their lengths."""
        return F.normalize(vectors_SD, dim=1)


TOKEN_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "unit": lambda dim: UnitNorm(),
    "layer": nn.LayerNorm,
    "none": lambda dim: nn.Identity(),
}


class Projector(nn.Module):
    """One modality's vectors → tokens of the shared space (standardise → MLP → norm)."""

    def __init__(self, dim_in: int, hidden: int, dim: int, norm: str) -> None:
        super().__init__()
        # A LayerNorm's own scale and shift would repeat the Linear's, and cost a gradient of the size of the input.
        standardise = nn.LayerNorm(dim_in, elementwise_affine=False)
        self.net = nn.Sequential(standardise, nn.Linear(dim_in, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.norm = TOKEN_NORMS[norm](dim)

    def forward(self, vectors_SI: Tensor) -> Tensor:
        """Return tokens [S, D]."""
        tokens_SD: Tensor = self.norm(self.net(vectors_SI))
        return tokens_SD


class AlignmentModel(nn.Module):
    """Scores users against items: content through the fusion, behaviour through ids, brought together by the head."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.projectors = nn.ModuleDict(
            {
                name: Projector(dim, spec.projector_hidden, spec.dim, spec.token_norm)
                for name, dim in spec.modalities.items()
            }
        )
        self.fusion = build(FUSIONS, "fusion", spec.fusion, spec.dim, len(spec.modalities), **spec.fusion_settings)
        self.as_target = nn.Linear(spec.dim, spec.dim)
        self.as_history = nn.Linear(spec.dim, spec.dim)
        self.content_bias = nn.Linear(spec.dim, 1)
        self.user_tower = build(USER_TOWERS, "user tower", spec.user_tower, spec.dim, **spec.user_tower_settings)
        self.head = build(HEADS, "head", spec.head, spec.dim, **spec.head_settings)
        shape = spec.dim, len(spec.modalities)
        self.losses = nn.ModuleDict(
            {name: build(LOSSES, "loss", name, *shape, **spec.loss_settings.get(name, {})) for name in spec.losses}
        )
        if spec.item_id:
            self.id_target = nn.Embedding(spec.items, spec.dim)
            self.id_history = nn.Embedding(spec.items, spec.dim)
            self.id_bias = nn.Embedding(spec.items, 1)
            nn.init.normal_(self.id_target.weight, std=0.1)
            nn.init.normal_(self.id_history.weight, std=0.1)
            nn.init.zeros_(self.id_bias.weight)
        self.user_parts = nn.ModuleDict()  # what is known of users beside their histories
        if spec.user_attributes:
            codes = list(spec.user_attributes.values())
            self.user_parts["attributes"] = UserAttributes(codes, spec.dim, spec.user_attribute_dropout)
        if spec.user_id:
            self.user_parts["id"] = UserIds(spec.users, spec.dim, spec.user_id_dropout)

    def tokens(self, vectors: Mapping[str, Tensor], present_SM: Tensor) -> Tensor:
        """Return modality tokens [S, M, D]: the aligned space."""
        stacked = torch.stack([self.projectors[name](vectors[name]) for name in self.spec.modalities], dim=1)
        return stacked * present_SM[..., None]

    def items(self, batch: ItemBatch) -> tuple[ItemVectors, ItemVectors]:
        """Return the item tower's vectors in training: as they are, and by their content alone.

        Modalities are hidden at random in both, ids of some items of the histories in the first.
        """
        present_SM = self._drop_modalities(batch.present_SM)
        tokens_SMD = self.tokens(batch.vectors, batch.present_SM)
        content = self.from_content(tokens_SMD, present_SM)
        whole = self.with_ids(content, batch.index_S, batch.known_S)
        shown = self.with_ids(content, batch.index_S, self._drop_ids(batch.known_S))
        return replace(whole, history_SD=shown.history_SD), content

    def assemble(self, tokens_SMD: Tensor, present_SM: Tensor, index_S: Tensor, with_id_S: Tensor) -> ItemVectors:
        """Fuse the present tokens and add the id vectors where `with_id_S`."""
        return self.with_ids(self.from_content(tokens_SMD, present_SM), index_S, with_id_S)

    def from_content(self, tokens_SMD: Tensor, present_SM: Tensor) -> ItemVectors:
        """Fuse the present tokens: an item without any interaction."""
        content_SD = self.fusion(tokens_SMD * present_SM[..., None], present_SM)
        target_SD, history_SD = self.as_target(content_SD), self.as_history(content_SD)
        bias_S = self.content_bias(content_SD).squeeze(1)
        return ItemVectors(tokens_SMD, present_SM, target_SD, bias_S, history_SD)

    def with_ids(self, content: ItemVectors, index_S: Tensor, with_id_S: Tensor) -> ItemVectors:
        """Add the id vectors where `with_id_S`."""
        if not self.spec.item_id:
            return content
        keep_S1 = with_id_S[:, None].to(content.bias_S.dtype)
        return replace(
            content,
            target_SD=content.target_SD + keep_S1 * self.id_target(index_S),
            bias_S=content.bias_S + (keep_S1 * self.id_bias(index_S)).squeeze(1),
            history_SD=content.history_SD + keep_S1 * self.id_history(index_S),
        )

    @property
    def target_aware(self) -> bool:
        """Whether users depend on the target."""
        return isinstance(self.user_tower, TargetAware)

    @property
    def is_product(self) -> bool:
        """Whether a score is users.vector_BE @ targets.item_SE.T + bias, and nothing beyond."""
        return is_product(type(self.head), type(self.user_tower))

    def users(self, history_SD: Tensor, histories: Histories, who: UserBatch) -> Users:
        """Return the users of these histories, which name rows of `history_SD`."""
        if self.target_aware:
            user_BD, attention = self.user_tower(history_SD, histories)
            user_BD = self._with_parts(user_BD, who)
            own_BD = user_BD + attention.uniform()
            return Users(own_BD, self.head.users(user_BD), attention.through(self.head.users))
        user_BD = self._with_parts(self.user_tower(history_SD, histories), who)
        return Users(user_BD, self.head.users(user_BD))

    def _with_parts(self, user_BD: Tensor, who: UserBatch) -> Tensor:
        for part in self.user_parts.values():
            user_BD = user_BD + part(who)
        return user_BD

    def targets(self, items: ItemVectors, chosen_C: Tensor | None = None) -> Targets:
        """Return all items, or the chosen rows of them, as the head takes recommendations."""
        query_SD, bias_S = items.target_SD, items.bias_S
        if chosen_C is not None:
            query_SD, bias_S = query_SD[chosen_C], bias_S[chosen_C]
        item_SE, bias_S = self.head.items(query_SD, bias_S)
        return Targets(item_SE, bias_S, query_SD if self.target_aware else None)

    def scores(self, users: Users, targets: Targets) -> Tensor:
        """Return the score of every user with every item [B, S]."""
        scores_BS = users.vector_BE @ targets.item_SE.T + targets.bias_S
        rest_BS = self.beyond_product(users, targets)
        return scores_BS if rest_BS is None else scores_BS + rest_BS

    def beyond_product(self, users: Users, targets: Targets) -> Tensor | None:
        """Return what the scores [B, S] have beyond users.vector_BE @ targets.item_SE.T + bias; None: nothing."""
        if users.attention is not None:
            assert targets.query_SD is not None
            return users.attention.block(targets.query_SD, targets.item_SE)
        if not self.head.product:
            rest_BS: Tensor = self.head.pairs(users.vector_BE, targets.item_SE)
            return rest_BS
        return None

    def pair_scores(self, users: Users, user_R: Tensor, targets_QR: Targets) -> Tensor:
        """Return the scores [Q, R] of R pairs: each a user, by place in `users`, and an item in Q variants."""
        product_QR = torch.einsum("re,qre->qr", users.vector_BE[user_R], targets_QR.item_SE)
        scores_QR = product_QR + targets_QR.bias_S
        if self.is_product:
            return scores_QR
        for user in user_R.unique().tolist():
            own_P = (user_R == user).nonzero().squeeze(1)
            rest = self.beyond_product(users.part(user, user + 1), targets_QR.take((slice(None), own_P)).flat())
            assert rest is not None
            scores_QR[:, own_P] += rest.view(len(scores_QR), -1)
        return scores_QR

    def loss(
        self, items: ItemVectors, content: ItemVectors, index_S: Tensor, aligned_A: Tensor, choices: Choices
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of all losses, and each by its name.

        `index_S` says which items `items` and `content` (without ids) are, `aligned_A` which rows of them the alignment
        losses look at.
        """
        parts: dict[str, Tensor] = {}
        for name, loss in self.losses.items():
            if isinstance(loss, AlignmentLoss):
                tokens_AMD = items.tokens_SMD[aligned_A]
                if self.spec.token_norm != "unit":  # alignment is a matter of directions
                    tokens_AMD = F.normalize(tokens_AMD, dim=2)
                parts[name] = loss(tokens_AMD, items.present_SM[aligned_A], index_S[aligned_A])
            elif isinstance(loss, ContentLoss):
                parts[name] = loss(content.target_SD, index_S)
            else:
                parts[name] = loss(choices)
        total = torch.stack([self.spec.losses[name] * part for name, part in parts.items()]).sum()
        return total, parts

    def connect(self, peers: Peers) -> None:
        """Tell the alignment losses who else trains; without it each is alone."""
        for loss in self.losses.values():
            if isinstance(loss, AlignmentLoss):
                loss.peers = peers

    def teach(self, teacher_NT: Tensor) -> None:
        """Give the teacher's rows by item index to the content losses."""
        for loss in self.losses.values():
            if isinstance(loss, ContentLoss):
                loss.teach(teacher_NT)

    @torch.no_grad()
    def constrain(self) -> None:
        """Shorten id vectors beyond `max_norm` to it: call it after each optimizer step.

        The projection onto the ball of max-norm regularisation (Srebro & Shraibman 2005; Hinton et al. 2012).
        """
        if self.spec.max_norm is None:
            return
        of_users = self.user_parts["id"].children() if self.spec.user_id else ()
        for part in (*self.children(), *of_users):
            if isinstance(part, nn.Embedding) and part.embedding_dim > 1:  # biases are free
                part.weight.copy_(part.weight.renorm(2, 0, self.spec.max_norm))

    def _drop_modalities(self, present_SM: Tensor) -> Tensor:
        """Hide one random modality of some items that have at least two."""
        if not self.training or self.spec.modality_dropout == 0.0:
            return present_SM
        several_S = present_SM.sum(dim=1) > 1
        chosen_S = several_S & (torch.rand(len(present_SM), device=present_SM.device) < self.spec.modality_dropout)
        # The largest random number among an item's present modalities names the one to hide.
        lottery_SM = torch.rand(present_SM.shape, device=present_SM.device).masked_fill(~present_SM, -1.0)
        hidden_SM = F.one_hot(lottery_SM.argmax(dim=1), present_SM.shape[1]).bool()
        return present_SM & ~(hidden_SM & chosen_S[:, None])

    def _drop_ids(self, known_S: Tensor) -> Tensor:
        if not self.training or self.spec.item_id_dropout == 0.0:
            return known_S
        return known_S & (torch.rand(len(known_S), device=known_S.device) >= self.spec.item_id_dropout)
